"""The page (Gradio) and the application around it: result files, the viewer, the gallery. Needs the extra ``app``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from depth_anything_3._optional import require
from depth_anything_3.errors import DA3Error
from depth_anything_3.export.base import EXPORTERS
from depth_anything_3.types.options import (
    CLEAN_PRESETS,
    METRIC_FOCALS,
    PROCESS_METHODS,
    REFERENCE_VIEW_STRATEGIES,
    REFINE_MODES,
)
from depth_anything_3.webui import results
from depth_anything_3.webui.choices import ModelChoice
from depth_anything_3.webui.desk import Desk, describe, submit_form
from depth_anything_3.webui.examples import Examples
from depth_anything_3.webui.intake import Uploads, previews, video_frames
from depth_anything_3.webui.jobs import AUTOMATIC, POSE_METHODS, Form
from depth_anything_3.webui.pages import NOTHING, downloads_html, videos_html, viewer_html
from depth_anything_3.webui.session import Session

gr = require("gradio", extra="app")

_CSS = """
.da3-viewer { width: 100%; height: 560px; border: 1px solid var(--border-color-primary); border-radius: 8px; }
.da3-status textarea { font-family: monospace; }
"""
_FONTS = {"font": ["system-ui", "sans-serif"], "font_mono": ["monospace"]}  # others would come from elsewhere
Handler = Callable[..., Any]


def look() -> dict[str, Any]:
    """Arguments of ``gradio.mount_gradio_app`` for theme and style."""
    return {"theme": gr.themes.Default(**_FONTS), "css": _CSS}


def upload_folder() -> Path:
    """Where Gradio puts what visitors upload."""
    return Path(gr.utils.get_upload_folder())


def build_page(desk: Desk, choices: list[ModelChoice], examples: Examples, *, gallery: bool) -> Any:
    """The page as ``gradio.Blocks``.

    Args:
        desk: does the work.
        choices: models for the list; the first is chosen.
        examples: photos to try.
        gallery: whether results can be kept in a gallery, which is then at ``/gallery``.
    """
    with gr.Blocks(title="Depth Anything 3", analytics_enabled=False, delete_cache=(3600, 86400)) as page:
        gr.Markdown("# Depth Anything 3\nPhotos or a video in; depth, cameras and 3D out.")
        session = gr.State(Session())
        with gr.Row():
            with gr.Column(scale=2):
                inputs = _input_panel(desk, choices, examples, gallery)
            with gr.Column(scale=4):
                status = gr.Textbox(label="State", interactive=False, lines=2, elem_classes="da3-status")
                shown = _result_panel(desk, session)
        run = functools.partial(_run, desk, Uploads(upload_folder()), tuple(inputs["form"]))
        started = inputs["go"].click(
            run, [*inputs["form"].values()], [session, status], api_visibility="private", concurrency_limit=16
        )
        started.then(functools.partial(_show, desk), [session], shown, api_visibility="private")
        inputs["stop"].click(functools.partial(_stop, desk), [session], [], api_visibility="private")
    return page


def _reported(handler: Handler) -> Handler:
    """Errors of the package become messages on the page."""

    @functools.wraps(handler)
    def wrapped(*args: Any) -> Any:
        try:
            return handler(*args)
        except (DA3Error, OSError) as error:
            raise gr.Error(_plain(error), duration=None, print_exception=False) from None

    return wrapped


def _plain(error: Exception) -> str:
    """The message of an error as text; Gradio shows messages as HTML."""
    import html

    return html.escape(str(error))


def _input_panel(desk: Desk, choices: list[ModelChoice], examples: Examples, gallery: bool) -> dict[str, Any]:
    images = gr.File(
        label="Photos of one scene", file_count="multiple", file_types=["image"], type="filepath", elem_id="da3-photos"
    )
    with gr.Accordion("Or a video", open=False):
        video = gr.File(label="Video", file_types=["video"], type="filepath", elem_id="da3-video")
        fps = gr.Slider(0.1, 30, value=1, step=0.1, label="Frames per second to take")
        look_at = gr.Button("Show the frames that would be taken")
        frames = gr.Gallery(label="Frames", columns=4, height=220, interactive=False, elem_id="da3-frames")
        look_at.click(_reported(_preview), [video, fps], [frames], api_visibility="private")
    with gr.Accordion("Examples", open=False):
        names = examples.names()
        example = gr.Dropdown(names, value=names[0], label="Example")
        gr.Button("Take these photos").click(
            _reported(lambda name: [str(path) for path in examples.photos(name)]), [example], [images],
            api_visibility="private",
        )  # fmt: skip
    model = gr.Dropdown([(choice.label, choice.source) for choice in choices], value=choices[0].source, label="Model")
    by_source = {choice.source: choice for choice in choices}
    note = gr.Textbox(choices[0].note, label="Licence and abilities", interactive=False, lines=3)
    settings = _settings(gallery, choices[0].gaussians)

    def chosen(source: str) -> tuple[str, Any]:
        return by_source[source].note, gr.Radio(by_source[source].gaussians, value="none")

    model.change(chosen, [model], [note, settings["gaussians"]], api_visibility="private")
    form = {"images": images, "video": video, "fps": fps, "model": model, **settings}
    with gr.Row():
        go, stop = gr.Button("Reconstruct", variant="primary"), gr.Button("Cancel")
    return {"form": form, "go": go, "stop": stop}


def _settings(gallery: bool, gaussian_choices: list[str]) -> dict[str, Any]:
    with gr.Accordion("Known cameras", open=False):
        poses = gr.File(
            label="Poses: a file of COLMAP, transforms.json, cameras.json, TUM or KITTI",
            type="filepath",
            elem_id="da3-poses",
        )
        lens = gr.File(
            label="Intrinsics: a file as for poses, or rows of fx fy cx cy", type="filepath", elem_id="da3-lens"
        )
        fov = gr.Textbox(label="Or a horizontal field of view, such as 60deg, or exif")
    with gr.Accordion("Settings", open=False):
        resolution = gr.Number(
            0, label="Resolution in pixels (0: the model's own)", precision=0, minimum=0, maximum=2016
        )
        method = gr.Dropdown(list(PROCESS_METHODS), value=Form.process_res_method, label="Resizing")
        pose_method = gr.Radio(list(POSE_METHODS), value=Form.pose_method, label="Cameras from")
        strategy = gr.Dropdown(list(REFERENCE_VIEW_STRATEGIES), value=Form.ref_view_strategy, label="Reference view")
        refine = gr.Radio(
            [AUTOMATIC, *REFINE_MODES], value=Form.refine, label="Refinement by matches", elem_id="da3-refine"
        )
        focal = gr.Radio(list(METRIC_FOCALS), value=Form.metric_focal, label="Metres from which focal length")
        clean = gr.Radio(list(CLEAN_PRESETS), value=Form.clean, label="Clean-up")
        gaussians = gr.Radio(gaussian_choices, value=Form.gaussians, label="3D Gaussians")
        formats = gr.CheckboxGroup(EXPORTERS.names(), value=list(Form.formats), label="Files")
    keep_as = gr.Textbox(label="Keep in the gallery as", visible=gallery)
    return {
        "poses": poses, "lens": lens, "fov": fov, "process_res": resolution, "process_res_method": method,
        "pose_method": pose_method, "ref_view_strategy": strategy, "refine": refine, "metric_focal": focal,
        "clean": clean, "gaussians": gaussians, "formats": formats, "keep_as": keep_as,
    }  # fmt: skip


def _result_panel(desk: Desk, session: Any) -> list[Any]:
    with gr.Tabs():
        with gr.Tab("3D"):
            viewer = gr.HTML(NOTHING)
        with gr.Tab("Depth"):
            with gr.Row():
                view = gr.Slider(0, 1, value=0, step=1, label="View", interactive=True)
                measuring = gr.Checkbox(False, label="Measure between two clicks")
            reading = gr.Textbox(label="Click a picture", interactive=False)
            with gr.Row():
                photo = gr.Image(
                    label="Photo", elem_id="da3-photo", interactive=False, format="png", buttons=["download"]
                )
                depth = gr.Image(label="Depth", interactive=False, format="png", buttons=["download"])
            sure = gr.Image(label="Confidence (white: sure)", interactive=False, format="png", buttons=["download"])
        with gr.Tab("Cameras"):
            cameras = gr.Dataframe(headers=["view", "fx", "fy", "cx", "cy", "centre"], interactive=False)
        with gr.Tab("Gaussian video"):
            videos = gr.HTML(NOTHING)
        with gr.Tab("Downloads"):
            downloads = gr.HTML(NOTHING)
    look_at = functools.partial(_look_at, desk)
    view.input(look_at, [session, view], [session, photo, depth, sure], api_visibility="private")

    # Not a partial: Gradio looks at the annotations to see that the event is wanted.
    def clicked(state: Session, two: bool, event: gr.SelectData) -> tuple[Session, str, Any]:  # type: ignore[name-defined]
        return _click(desk, state, two, event.index)

    for picture in (photo, depth, sure):
        picture.select(clicked, [session, measuring], [session, reading, photo], api_visibility="private")
    return [viewer, view, photo, depth, sure, cameras, videos, downloads, reading]


def _preview(video: str | None, fps: float) -> list[Any]:
    if not video:
        raise gr.Error("Choose a video first.", print_exception=False)
    return previews(video_frames(Uploads(upload_folder()).check(video), fps=fps))


def _run(desk: Desk, uploads: Uploads, names: tuple[str, ...], *values: Any) -> Iterator[tuple[Session, str]]:
    """Submit a job and follow it to its end."""
    given = dict(zip(names, values, strict=True))
    try:
        session = submit_form(desk, uploads, given)
        for job in desk.watch(session):
            yield session, describe(job)
    except (DA3Error, OSError) as error:
        raise gr.Error(_plain(error), duration=None, print_exception=False) from None


def _show(desk: Desk, session: Session) -> tuple[Any, ...]:
    """Everything that the result panel shows, in its order."""
    job, arrays = desk.finished(session), desk.arrays(session)
    if job is None or arrays is None:
        return NOTHING, gr.skip(), None, None, None, [], NOTHING, NOTHING, ""
    names = [file.name for file in job.files]
    count = len(arrays.depth)
    return (
        viewer_html(job.id, names, metric=arrays.metric),
        gr.Slider(0, max(count - 1, 1), value=0, step=1, interactive=count > 1),
        arrays.image[0],
        results.depth_picture(arrays, 0),
        results.confidence_picture(arrays, 0),
        results.camera_rows(arrays),
        videos_html(job.id, names),
        downloads_html(job.id, [(file.name, file.bytes) for file in job.files]),
        "",
    )


def _look_at(desk: Desk, session: Session, view: float) -> tuple[Any, ...]:
    arrays = desk.arrays(session)
    if arrays is None:
        return session, None, None, None
    chosen = min(max(int(view), 0), len(arrays.depth) - 1)
    pictures_of = (
        results.marked(arrays, chosen, session.clicks),
        results.depth_picture(arrays, chosen),
        results.confidence_picture(arrays, chosen),
    )
    return replace(session, view=chosen), *pictures_of


def _click(desk: Desk, session: Session, measuring: bool, place: tuple[int, int]) -> tuple[Session, str, Any]:
    arrays = desk.arrays(session)
    if arrays is None:
        return session, "", None
    _, height, width = arrays.depth.shape
    column, row = (min(max(int(value), 0), most - 1) for value, most in zip(place, (width, height), strict=True))
    pixel = (session.view, column, row)
    before = session.clicks if measuring and len(session.clicks) == 1 else ()
    session = replace(session, clicks=(*before, pixel))
    lines = [results.read_out(arrays, clicked) for clicked in session.clicks]
    if len(session.clicks) == 2:
        value = results.distance(arrays, *session.clicks)
        lines.append("distance: unknown without cameras" if value is None else f"distance: {arrays.length(value)}")
    elif measuring:
        lines.append("click the second point")
    return session, "\n".join(lines), results.marked(arrays, session.view, session.clicks)


def _stop(desk: Desk, session: Session) -> None:
    desk.cancel(session)
