"""The reason of a failure is its cause, whatever language its program was written in."""

from __future__ import annotations

import pytest

from echelon.worker.reasons import find_cause

TRACES = {
    "java": (
        (
            'Exception in thread "main" java.lang.IllegalStateException: the table is missing\n'
            "\tat com.example.Foo.bar(Foo.java:12)\n\tat com.example.Main.main(Main.java:5)\n"
        ),
        'Exception in thread "main" java.lang.IllegalStateException: the table is missing',
    ),
    "java with a cause": (
        (
            "java.lang.RuntimeException: cannot start\n\tat a.B.c(B.java:1)\n"
            "Caused by: java.io.IOException: no space left\n\tat a.D.e(D.java:7)\n\t... 12 more\n"
        ),
        "Caused by: java.io.IOException: no space left",
    ),
    "python": (
        'Traceback (most recent call last):\n  File "x.py", line 1\n    boom()\nValueError: no such sample\n',
        "ValueError: no such sample",
    ),
    "node": (
        (
            '/x.js:1\nthrow new Error("boom")\n^\n\nError: boom\n    at Object.<anonymous> (/x.js:1:7)\n'
            "    at node:internal/main/run_main_module:28:49\n\nNode.js v18.19.0\n"
        ),
        "Error: boom",
    ),
    "go": (
        "panic: no such sample\n\ngoroutine 1 [running]:\nmain.main()\n\t/x.go:5 +0x18\nexit status 2\n",
        "panic: no such sample",
    ),
    "rust": (
        (
            "thread 'main' panicked at src/main.rs:2:5:\nno such sample\n"
            "note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n"
        ),
        "no such sample",
    ),
    "ruby": (
        "x.rb:1:in `foo': boom (RuntimeError)\n\tfrom x.rb:3:in `<main>'\n",
        "x.rb:1:in `foo': boom (RuntimeError)",
    ),
    "c#": (
        "Unhandled exception. System.Exception: boom\n   at Program.Main() in /x.cs:line 5\n",
        "Unhandled exception. System.Exception: boom",
    ),
    "php": (
        "PHP Fatal error:  Uncaught Exception: boom in /x.php:3\nStack trace:\n#0 {main}\n  thrown in /x.php\n",
        "PHP Fatal error:  Uncaught Exception: boom in /x.php:3",
    ),
    "r": ("Error in f(1) : no such sample\nCalls: g -> f\nExecution halted\n", "Error in f(1) : no such sample"),
    "colours": ("\x1b[1;31mError:\x1b[0m disk full\x1b[K\n", "Error: disk full"),
    "title": ("\x1b]0;my window\x07cannot open x\n", "cannot open x"),
    "progress": (" 10%\r 20%\rcurl: (6) Could not resolve host: x\n", "curl: (6) Could not resolve host: x"),
    "frames alone": ("\tat a.b(c.java:1)\n\tat a.d(c.java:2)\n", "at a.d(c.java:2)"),
    "plain": ("first\nat the end nothing was left\n\n", "at the end nothing was left"),
    "nothing": ("\n \n", ""),
}


@pytest.mark.parametrize("name", TRACES)
def test_the_cause_is_found(name: str) -> None:
    text, cause = TRACES[name]

    assert find_cause(text) == cause
