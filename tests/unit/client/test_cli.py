"""The command, as a subprocess, against a scripted server."""

import asyncio
import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import wave
from pathlib import Path

import pytest

from tests.unit.client.scripted import RATE_HZ, ScriptedServer, pcm_of, problem, running, speech
from tests.unit.client.test_terminal import Screen

WORDS = speech("So we beat on, boats against the current. Borne back ceaselessly into the past.")
PCM = pcm_of(WORDS)
SENTENCES = [
    "So we beat on, boats against the current.",
    "Borne back ceaselessly into the past.",
]
PIPE, DEVNULL = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(PCM)
    return path


async def start(
    *args: object, stdin: int = DEVNULL, stdout: int = PIPE, env: dict[str, str] | None = None
) -> asyncio.subprocess.Process:
    environment = {k: v for k, v in os.environ.items() if k != "MEDIASERVER_API_KEY"} | (env or {})
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mediaserver_client", *map(str, args),
        stdin=stdin, stdout=stdout, stderr=PIPE, env=environment,
    )  # fmt: skip


async def run(
    *args: object, given: bytes | None = None, env: dict[str, str] | None = None
) -> tuple[int, str, str]:
    process = await start(*args, stdin=DEVNULL if given is None else PIPE, env=env)
    try:
        async with asyncio.timeout(90):
            out, err = await process.communicate(given)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_a_file_gives_its_finals_as_lines(clip: Path) -> None:
    async with running(ScriptedServer(WORDS)) as server:
        code, out, err = await run(
            clip, "--server", server.url, "--language", "en", "--translate", "--room", "r",
            env={"MEDIASERVER_API_KEY": "k" * 16},
        )  # fmt: skip
    assert (code, out.splitlines(), err) == (0, SENTENCES, "")
    begun = next(m for m in server.seen if m["type"] == "audio.start")
    assert begun["options"] == {
        "language": "en", "task": "translate", "interim": False, "endpointing_ms": 500,
    }  # fmt: skip
    assert server.queries[0]["room"] == "r"
    assert server.headers[0]["Authorization"] == "Bearer " + "k" * 16


@pytest.mark.parametrize("format", ["vtt", "srt", "json"])
async def test_other_formats(clip: Path, format: str) -> None:
    async with running(ScriptedServer(WORDS)) as server:
        code, out, _ = await run(clip, "--server", server.url, "--format", format)
    assert code == 0
    if format == "json":
        assert [json.loads(line)["text"] for line in out.splitlines()] == SENTENCES
    else:
        blocks = out.split("\n\n")
        assert blocks.pop() == ""
        if format == "vtt":
            assert blocks.pop(0) == "WEBVTT"
            assert blocks[0].startswith("00:00:00.500 --> ")
        else:
            assert blocks[1].startswith("2\n00:00:")
        assert [block.splitlines()[-1] for block in blocks] == SENTENCES


async def test_pcm_from_a_pipe() -> None:
    async with running(ScriptedServer(WORDS)) as server:
        code, out, _ = await run("-", "--server", server.url, given=PCM)
        assert (code, out.splitlines()) == (0, SENTENCES)
        code, _, err = await run("-", "--server", server.url, given=b"RIFF" + bytes(4000))
        assert code == 5
        assert "name the file instead" in err


async def test_a_terminal_shows_partials_and_keeps_finals(clip: Path) -> None:
    mine, theirs = pty.openpty()
    seen = bytearray()
    loop = asyncio.get_running_loop()
    loop.add_reader(mine, lambda: seen.extend(os.read(mine, 65536)))
    try:
        async with running(ScriptedServer(WORDS)) as server:
            process = await start(
                clip, "--realtime", "--server", server.url, stdout=theirs, env={"COLUMNS": "60"}
            )
            async with asyncio.timeout(90):
                assert await process.wait() == 0
            async with asyncio.timeout(20):  # what it wrote last is still on the way
                while select.select([mine], [], [], 0)[0]:
                    await asyncio.sleep(0.02)
    finally:
        loop.remove_reader(mine)
        os.close(mine)
        os.close(theirs)
    text = seen.decode().replace("\r\n", "\n")
    screen, dim = Screen(60), set()
    for step in text.split("\r"):
        screen.write("\r" + step)
        dim.add(screen.dim[-1])
    assert [line for line in screen.lines if line] == SENTENCES
    assert len(dim) > 5, "partials were shown, dim"


async def test_ctrl_c_ends_with_the_pending_finals() -> None:
    async with running(ScriptedServer(WORDS)) as server:
        process = await start("-", "--server", server.url, stdin=PIPE)
        assert process.stdin is not None
        process.stdin.write(PCM[: 2 * round(1.6 * RATE_HZ)])
        await process.stdin.drain()
        while not (server.received_s and server.received_s[0] > 1.5):
            await asyncio.sleep(0.02)
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(60):
            assert process.stdout is not None
            out = await process.stdout.read()
            assert await process.wait() == 0
    assert out.decode() == "So we beat on,\n"


async def test_ctrl_c_of_a_file_says_that_it_is_not_whole(clip: Path) -> None:
    async with running(ScriptedServer(WORDS)) as server:
        process = await start(clip, "--realtime", "--server", server.url)
        while not (server.received_s and server.received_s[0] > 1.5):
            await asyncio.sleep(0.02)
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(60):
            assert process.stdout is not None
            out = await process.stdout.read()
            assert await process.wait() == 130
    assert out.decode().startswith("So we")


async def test_errors_say_what_to_do_and_have_their_exit_code(clip: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        code, out, err = await run(clip, "--server", f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert (code, out) == (3, "")
    assert "is it running?" in err
    assert "Traceback" not in err
    async with running(ScriptedServer(refuse=[problem("wrong_key", 401)])) as server:
        code, _, err = await run(clip, "--server", server.url)
        assert (code, "Wrong key: for the test" in err) == (4, True)
        code, _, err = await run(tmp_path / "missing.wav", "--server", server.url)
        assert (code, "No such file" in err) == (5, True)
    for wrong in ((), (clip, "--mic"), (clip, "--device", "x"), (clip, "--format", "doc")):
        code, _, err = await run(*wrong)
        assert (code, "usage:" in err) == (2, True)


async def test_a_reader_that_goes_away_ends_it_quietly(clip: Path) -> None:
    async with running(ScriptedServer(WORDS)) as server:
        process = await start(
            clip, "--server", server.url, "--format", "json", stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
        async with asyncio.timeout(60):
            assert process.stderr is not None
            err = (await process.stderr.read()).decode()
            code = await process.wait()
    assert (code, err) == (1, "")


async def test_help_has_examples_and_exit_codes() -> None:
    code, out, _ = await run("--help")
    assert code == 0
    assert "arecord" in out
    assert "exit codes" in out
