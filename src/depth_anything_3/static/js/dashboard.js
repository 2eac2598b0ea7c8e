// What comes from the server is put in place as text, never as HTML.
"use strict";

function row(cells) {
  const line = document.createElement("tr");
  for (const cell of cells) line.appendChild(document.createElement("td")).textContent = cell;
  return line;
}

function fact(name, value) {
  const term = document.createElement("dt");
  const said = document.createElement("dd");
  term.textContent = name;
  said.textContent = value === null ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value);
  return [term, said];
}

async function refresh() {
  const state = document.getElementById("state");
  try {
    const [model, tasks] = await Promise.all(["/status", "/tasks"].map(async (path) => {
      const answer = await fetch(path);
      if (!answer.ok) throw new Error((await answer.json()).error.message);
      return answer.json();
    }));
    document.getElementById("model").replaceChildren(...Object.entries(model).flatMap(([k, v]) => fact(k.replaceAll("_", " "), v)));
    document.getElementById("jobs").replaceChildren(...tasks.tasks.slice(0, 30).map((t) =>
      row([t.task_id, t.status, t.progress === null ? "" : `${Math.round(100 * t.progress)} %`, t.num_images, t.message])));
    state.textContent = `${tasks.active_count} active of ${tasks.total_count} jobs, at ${new Date().toLocaleTimeString()}`;
  } catch (error) {
    state.textContent = String(error.message);
  }
}

refresh();
setInterval(refresh, 5000);
