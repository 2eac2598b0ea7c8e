"""An endpoint for clients of the OpenAI kind: images in, depth and cameras out as JSON text, with links to the files.

Options of a job are given in the field ``options`` (``extra_body={"options": {...}}`` in the official client). A field
that has no meaning here is refused rather than dropped.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import re
import time
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response, StreamingResponse

from depth_anything_3.serve.fetch import Fetcher, FetchError
from depth_anything_3.serve.guard import allowed_types
from depth_anything_3.serve.http_errors import HttpError
from depth_anything_3.serve.intake import IncomingImage, TooLargeError
from depth_anything_3.serve.jobs import JobQueue
from depth_anything_3.serve.requests import options_schema
from depth_anything_3.serve.routes_jobs import json_object, owner_of
from depth_anything_3.serve.store import FINISHED, Job
from depth_anything_3.serve.views import error_answers, in_turn, json_content, wait_for
from depth_anything_3.types.options import PATCH_SIZE

_DATA_URL = re.compile(r"data:image/([a-z0-9.+-]{1,20});base64,", re.ASCII)
_TEXT_NOTE = "the text of the request has no effect; options of the model go in the field 'options'"
_PLAIN_FIELDS = frozenset({"model", "stream", "user", "metadata", "store", "options", "n"})
_OBJECT: dict[str, Any] = {"type": "object"}


def router(queue: JobQueue, fetcher: Fetcher) -> APIRouter:
    """The routes on a queue."""
    routes = APIRouter(prefix="/v1", tags=["OpenAI-style"])
    _add_models(routes, queue)

    def describe(field: str, answer: str) -> dict[str, Any]:
        return {
            "responses": {200: json_content(_OBJECT, answer), **error_answers(400, 413, 415, 404, 504)},
            "openapi_extra": {"requestBody": json_content(_body_schema(field), "Request") | {"required": True}},
        }

    @routes.post("/chat/completions", **describe("messages", "A chat completion"))
    async def chat(request: Request) -> Response:
        """Images in the last user message, as `image_url` parts: data URLs, or URLs where the server allows them."""
        values = await _values(request, "messages")
        images, notes = _chat_images(values["messages"])
        job = await _run(request, queue, fetcher, values, images)
        answer = _chat_answer(job, _answer_text(request, job, notes), values["model"])
        if values.get("stream"):
            return StreamingResponse(_chat_stream(answer), media_type="text/event-stream")
        return JSONResponse(answer)

    @routes.post("/responses", **describe("input", "A response"))
    async def responses(request: Request) -> Response:
        """Images in `input` as `input_image` parts: data URLs, or URLs where the server allows them."""
        values = await _values(request, "input")
        if values.get("stream"):
            raise _wrong("stream", "streaming is offered by /v1/chat/completions and /v1/jobs/{id}/events")
        images, notes = _response_images(values["input"])
        job = await _run(request, queue, fetcher, values, images)
        return JSONResponse(_response_answer(job, _answer_text(request, job, notes), values["model"]))

    return routes


def _add_models(routes: APIRouter, queue: JobQueue) -> None:
    model = {"id": queue.settings.model, "object": "model", "created": 0, "owned_by": "depth-anything-3"}

    @routes.get("/models", responses={200: json_content(_OBJECT, "Models"), **error_answers()})
    def models() -> JSONResponse:
        """The model that this server runs."""
        return JSONResponse({"object": "list", "data": [model]})

    @routes.get("/models/{name:path}", responses={200: json_content(_OBJECT, "The model"), **error_answers(404)})
    def one_model(name: str) -> JSONResponse:
        """The model that this server runs, by its name."""
        if name != model["id"]:
            raise _no_model(name, queue)
        return JSONResponse(model)


def _body_schema(field: str) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["model", field],
        "additionalProperties": False,
        "properties": {
            "model": {"type": "string"},
            field: {"type": "array", "items": _OBJECT, "minItems": 1},
            "options": options_schema(),
            "stream": {"type": "boolean"},
            "user": {"type": "string"},
            "metadata": _OBJECT,
            "store": {"type": "boolean"},
            "n": {"const": 1},
        },
    }


async def _values(request: Request, field: str) -> dict[str, Any]:
    """The body, with every field of a shape that the rest can rely on."""
    allowed_types(request.headers.get("content-type", ""), ("application/json",))
    values = await json_object(request)
    known = _PLAIN_FIELDS | {field}
    if unknown := sorted(set(values) - known):
        message = f"{unknown[0]!r} has no meaning here; known are: {', '.join(sorted(known))}"
        raise HttpError(400, "unsupported_parameter", message, param=unknown[0])
    kinds: dict[str, Any] = {
        "model": str,
        "stream": bool,
        "options": dict,
        "store": bool,
        "metadata": dict,
        "user": str,
    }
    for name, kind in kinds.items():
        if name in values and not isinstance(values[name], kind) and values[name] is not None:
            raise _wrong(name, f"{name}: expected {kind.__name__}")
    if not isinstance(values.get("model"), str):
        raise _wrong("model", "model: expected the name of a model, see /v1/models")
    if values.get("n", 1) != 1 or isinstance(values.get("n"), bool):
        raise _wrong("n", "n: only 1 answer is given")
    if values.get("store"):
        raise _wrong("store", "store: answers are not stored; the job and its files are, see /v1/jobs")
    if not isinstance(values.get(field), list):
        raise _wrong(field, f"{field}: expected a list with at least one image in it")
    return values


def _chat_images(messages: list[Any]) -> tuple[list[str], list[str]]:
    """URLs of all images of the user's messages, in order."""
    urls, text = [], False
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        content = _content_of(message, where)
        if message["role"] != "user":
            text = True
            continue
        for part in content:
            kind = part.get("type")
            if kind == "image_url":
                urls.append(_chat_url(part, where))
            elif kind == "text":
                text = True
            else:
                raise _wrong(where, f"{where}: got a part of type {kind!r}; expected 'image_url' or 'text'")
    return _at_least_one(urls, "messages"), [_TEXT_NOTE] if text else []


def _chat_url(part: dict[str, Any], where: str) -> str:
    inner = part.get("image_url")
    url = inner.get("url") if isinstance(inner, dict) else None
    if not isinstance(url, str):
        raise _wrong(where, f"{where}: an image is {{'type': 'image_url', 'image_url': {{'url': ...}}}}")
    return url


def _response_images(items: list[Any]) -> tuple[list[str], list[str]]:
    urls, text = [], False
    for index, item in enumerate(items):
        where = f"input[{index}]"
        for part in _content_of(item, where):
            kind = part.get("type")
            if kind == "input_image":
                if not isinstance(part.get("image_url"), str):
                    raise _wrong(where, f"{where}: an image is {{'type': 'input_image', 'image_url': ...}}")
                urls.append(part["image_url"])
            elif kind in ("input_text", "output_text", "text"):
                text = True
            else:
                raise _wrong(where, f"{where}: got a part of type {kind!r}; expected 'input_image' or 'input_text'")
    return _at_least_one(urls, "input"), [_TEXT_NOTE] if text else []


def _content_of(message: Any, where: str) -> list[dict[str, Any]]:
    """The parts of a message; plain text counts as one."""
    if not isinstance(message, dict) or not isinstance(message.get("role", "user"), str):
        raise _wrong(where, f"{where}: expected an object with role and content")
    message.setdefault("role", "user")
    content = message.get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise _wrong(where, f"{where}: content is a text or a list of parts")
    return content


def _at_least_one(urls: list[str], param: str) -> list[str]:
    if not urls:
        raise _wrong(param, f"{param}: there is no image")
    return urls


async def _run(request: Request, queue: JobQueue, fetcher: Fetcher, values: dict[str, Any], urls: list[str]) -> Job:
    """The finished job; it is cancelled when the client hangs up."""
    if values["model"] != queue.settings.model:
        raise _no_model(values["model"], queue)
    limits = queue.settings.limits
    if len(urls) > limits.images:
        raise TooLargeError(f"images: got {len(urls)}; at most {limits.images} in one request")

    images = await run_in_threadpool(lambda: [_image(url, index, queue, fetcher) for index, url in enumerate(urls)])
    options = values.get("options") or {}
    job = await in_turn(partial(queue.submit, images, options, owner=owner_of(request)))
    job = await wait_for(queue, job.id, seconds=limits.answer_seconds, gone=request.is_disconnected)
    if job.status not in FINISHED:
        await run_in_threadpool(queue.cancel, job.id)
        raise HttpError(504, "not_finished", f"job {job.id} did not finish in time; submit it to /v1/jobs instead")
    if job.status != "completed":
        internal = job.message.startswith("an internal error")
        raise HttpError(500 if internal else 400, job.error_type or "failed", f"job {job.id}: {job.message}")
    return job


def _image(url: str, index: int, queue: JobQueue, fetcher: Fetcher) -> IncomingImage:
    """An image from its URL."""
    if match := _DATA_URL.match(url):
        try:
            content = base64.b64decode(url[match.end() :], validate=True)
        except (binascii.Error, ValueError):
            raise _wrong("image_url", f"image[{index}]: damaged base64") from None
        return IncomingImage(f"image_{index:04d}.{match[1]}", io.BytesIO(content))
    if not url.startswith(("http://", "https://")):
        raise _wrong("image_url", f"image[{index}]: expected a URL 'data:image/...;base64,...'")
    if not queue.settings.allow_urls:
        message = (
            f"image[{index}]: this server fetches no URLs; send the image as data:image/...;base64,..., or have the "
            "operator start it with --allow-urls (setting allow_urls)"
        )
        raise HttpError(400, "urls_not_allowed", message, param="allow_urls")
    try:
        fetched = fetcher.fetch(url)
    except FetchError as error:
        raise HttpError(400, "url_refused", f"image[{index}]: {error}", param="image_url") from None
    return IncomingImage(fetched.name, io.BytesIO(fetched.content))


def _answer_text(request: Request, job: Job, notes: Iterable[str]) -> str:
    base = str(request.base_url).rstrip("/")
    answer = {
        "job": job.id,
        **(job.summary or {}),
        "files": [
            {"name": file.name, "bytes": file.bytes, "url": f"{base}/v1/jobs/{job.id}/files/{file.name}"}
            for file in job.files
        ],
        "notes": [*job.notes, *notes],
    }
    return json.dumps(answer)


def _usage(job: Job) -> tuple[int, int]:
    """Tokens in: patches that the network read. Tokens out: none, an answer is not made of tokens."""
    return job.pixels // PATCH_SIZE**2, 0


def _chat_answer(job: Job, text: str, model: str) -> dict[str, Any]:
    read, written = _usage(job)
    return {
        "id": f"chatcmpl-{job.id}",
        "object": "chat.completion",
        "created": int(job.created),
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written},
    }


def _chat_stream(answer: dict[str, Any]) -> Iterator[str]:
    """The same in pieces: the role, the text, the end."""
    (choice,) = answer["choices"]
    shared = {name: answer[name] for name in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    text = choice["message"]["content"]
    deltas: tuple[dict[str, str], ...] = ({"role": "assistant", "content": ""}, {"content": text}, {})
    for index, delta in enumerate(deltas):
        last = index == len(deltas) - 1
        piece = {
            **shared,
            "choices": [{"index": 0, "delta": delta, "finish_reason": "stop" if last else None}],
            "usage": answer["usage"] if last else None,
        }
        yield f"data: {json.dumps(piece)}\n\n"
    yield "data: [DONE]\n\n"


def _response_answer(job: Job, text: str, model: str) -> dict[str, Any]:
    read, written = _usage(job)
    return {
        "id": f"resp_{job.id}",
        "object": "response",
        "created_at": int(job.created),
        "completed_at": int(job.finished or time.time()),
        "status": "completed",
        "model": model,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "output": [
            {
                "type": "message",
                "id": f"msg_{job.id}",
                "status": "completed",
                "role": "assistant",
                "content": [{"type": "output_text", "text": text, "annotations": []}],
            }
        ],
        "parallel_tool_calls": False,
        "tool_choice": "none",
        "tools": [],
        "usage": {
            "input_tokens": read,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": written,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": read + written,
        },
    }


def _wrong(param: str, message: str) -> HttpError:
    return HttpError(400, "invalid_value", message, param=param)


def _no_model(name: str, queue: JobQueue) -> HttpError:
    message = f"this server does not run {name[:100]!r}; it runs {queue.settings.model!r}"
    return HttpError(404, "model_not_found", message, param="model")
