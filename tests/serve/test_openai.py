"""The OpenAI-style endpoint with the real client, and the documentation as printed, on the bundled model."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.serving import HTTP, png, running_server, settings_for, until

openai = pytest.importorskip("openai")

REAL = {"predictor": "depth_anything_3.serve.predictors:ModelPredictor", "devices": ("cpu",)}


def data_url(name: str = "png", **size: int) -> str:
    return f"data:image/{name};base64,{base64.b64encode(png(**size)).decode()}"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    settings = settings_for(tmp_path_factory.mktemp("openai"), preload=True, **REAL)
    with running_server(settings) as address:
        until(lambda: HTTP.get(f"{address}/readyz").status_code == 200, 60)
        yield address


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as connected:
        yield connected


def user(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def test_models(client: Any) -> None:
    assert [model.id for model in client.models.list()] == ["bundled"]
    assert client.models.retrieve("bundled").object == "model"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt")


def test_chat_gives_depth_cameras_and_files(client: Any) -> None:
    parts = [{"type": "text", "text": "How far?"}, image(data_url()), image(data_url(seed=1))]
    answer = client.chat.completions.create(
        model="bundled",
        messages=user(*parts),
        extra_body={"options": {"process_res": 56, "export_format": "depth_raw"}},
    )
    depth = json.loads(answer.choices[0].message.content)
    assert answer.choices[0].finish_reason == "stop" and depth["scale"] in ("relative", "metric")
    for view in depth["views"]:
        assert 0 < view["depth"]["min"] <= view["depth"]["median"] <= view["depth"]["max"]
        assert len(view["depth"]["grid"]) == 8 and len(view["extrinsics"]) == len(view["intrinsics"]) == 3
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == 2 * (42 // 14) * (56 // 14)
    assert "no effect" in depth["notes"][0]
    assert [file["name"] for file in depth["files"]] == [
        *("depth_raw/0000.png", "depth_raw/0001.png", "depth_raw/depth.json", "exports.json"),
    ]
    assert HTTP.get(depth["files"][0]["url"]).content.startswith(b"\x89PNG")


def test_chat_in_pieces(client: Any) -> None:
    pieces = list(
        client.chat.completions.create(
            model="bundled", messages=user(image(data_url())), stream=True, extra_body={"options": {"process_res": 56}}
        )
    )
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces)
    assert json.loads(text)["views"] and pieces[-1].choices[0].finish_reason == "stop"


def test_responses(client: Any) -> None:
    content = [{"type": "input_text", "text": "Depth?"}, {"type": "input_image", "image_url": data_url()}]
    answer = client.responses.create(
        model="bundled",
        input=[{"role": "user", "content": content}],
        extra_body={"options": {"process_res": 56, "export_format": "mini_npz"}},
    )
    assert json.loads(answer.output_text)["views"][0]["depth"]["median"] > 0
    assert answer.status == "completed" and answer.usage.total_tokens == 12


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"messages": user(image("https://example.org/a.png"))}, "allow_urls", "urls_not_allowed"),
        ({"messages": user(image("file:///etc/passwd"))}, "image_url", "invalid_value"),
        ({"messages": user(image("data:image/png;base64,????"))}, "image_url", "invalid_value"),
        ({"messages": user(image("data:image/png;base64,AAAA"))}, "image[0]", "invalid_value"),
        ({"messages": user({"type": "text", "text": "x"})}, "messages", "invalid_value"),
        ({"messages": user({"type": "input_audio"})}, "messages[0]", "invalid_value"),
        ({"temperature": 0.5}, "temperature", "unsupported_parameter"),
        ({"n": 2}, "n", "invalid_value"),
        ({"extra_body": {"options": {"proces_res": 1}}}, "proces_res", "invalid_value"),
    ],
)
def test_wrong_requests_have_the_error_shape_that_the_client_reads(
    client: Any, changes: dict[str, Any], param: str, code: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{"model": "bundled", "messages": user(image(data_url())), **changes})
    assert (caught.value.param, caught.value.code) == (param, code)
    assert caught.value.body["type"] == "invalid_request_error"
    with pytest.raises(openai.NotFoundError, match="does not run"):
        client.chat.completions.create(model="other", messages=user(image(data_url())))


@pytest.mark.parametrize("document", ["README.md", "docs/server.md"])
def test_the_line_of_the_documentation_as_printed(url: str, repository: Path, tmp_path: Path, document: str) -> None:
    text = (repository / document).read_text()
    (line,) = re.findall(r"^(?:\$ )?(curl http.*)$", text, re.MULTILINE)
    assert "http://127.0.0.1:8008" in line
    script = line.replace("http://127.0.0.1:8008", url)
    result = subprocess.run(["bash", "-c", f"{script} -s"], capture_output=True, text=True, check=True, cwd=tmp_path)
    answer = json.loads(result.stdout)
    assert json.loads(answer["choices"][0]["message"]["content"])["views"][0]["intrinsics"], answer


def test_the_python_of_the_documentation_as_printed(
    url: str, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    for name in ("photo.jpg", "left.jpg", "right.jpg"):
        Image.new("RGB", (80, 60), "teal").save(name)
    text = (repository / "docs" / "server.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        code = block.replace("http://127.0.0.1:8008", url)
        exec(compile(code, "docs/server.md", "exec"), {})
    assert Path("results/scene.glb").is_file()
