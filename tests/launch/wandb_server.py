"""A small server that speaks W&B's protocol as far as `wandb sweep`, `wandb agent`, online runs and `wandb sync` do.

Standard library, YAML and the package `sweeps`; on loopback, in a thread. `Server.mood` makes it answer 500, or not at
all.
"""

from __future__ import annotations

import gzip
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

from vision_repro.search.suggest import engine, plain_value

KEY = "k" * 40
ENTITY, TIME = "someone", "2030-01-01T00:00:00Z"


@dataclass
class Run:
    """What the server knows of a run."""

    name: str
    sweep: str = ""
    state: str = "running"
    display: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: dict[int, dict[str, Any]] = field(default_factory=dict)
    live: bool = False

    def points(self, metric: str) -> list[float]:
        """Returns the values of a metric in the order they were logged."""
        return [row[metric] for _, row in sorted(self.history.items()) if metric in row]


class Quiet(ThreadingHTTPServer):
    """Waits for no thread, and says nothing about clients that went away."""

    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing."""


@dataclass
class Server:
    """The state, and the operations on it by name."""

    mood: str = "well"
    sweeps: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    agents: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)
    release: threading.Event = field(default_factory=threading.Event)
    leave_after: int | None = None

    def start(self) -> None:
        """Listens on a free port of this machine."""
        server = self
        engine()  # imported now, and not while an agent waits

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.reply(200, {})

            def do_PUT(self) -> None:
                self.body()
                self.reply(200, {})

            def do_POST(self) -> None:
                body = self.body()
                if server.mood == "hang":
                    server.release.wait()
                if server.mood != "well":
                    self.reply(500, {"error": "out of order"})
                    return
                with server.lock:
                    self.reply(200, server.answer(self.path, json.loads(body or b"{}")))

            def body(self) -> bytes:
                data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                return gzip.decompress(data) if self.headers.get("Content-Encoding") == "gzip" else data

            def reply(self, code: int, content: Any) -> None:
                data = json.dumps(content).encode()
                try:
                    self.send_response(code)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)
                except OSError:
                    self.close_connection = True

            def log_message(self, format: str, *args: Any) -> None:
                """Says nothing."""

        self.http = Quiet(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Lets hanging requests go and closes the port; a second time it does nothing."""
        if self.mood == "gone":
            return
        self.mood = "gone"
        self.release.set()
        self.http.shutdown()
        self.http.server_close()

    @property
    def url(self) -> str:
        """The address."""
        return f"http://127.0.0.1:{self.http.server_address[1]}"

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs."""
        return {
            "WANDB_MODE": "online",
            "WANDB_BASE_URL": self.url,
            "WANDB_API_KEY": KEY,
            "WANDB_ERROR_REPORTING": "false",
            "WANDB_INIT_TIMEOUT": "20",
            "WANDB_FINISH_TIMEOUT": "20",
        }

    def answer(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Returns the reply to a POST."""
        stream = re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", path)
        if stream:
            return self.stream(self.runs[stream[1]], body)
        operation = re.search(r"\b(?:query|mutation)\s+(\w+)", body.get("query", ""))
        name = operation[1] if operation else ""
        self.asked.append(name)
        known = getattr(self, f"on_{name.lower()}", None)
        if known is None:
            return {"errors": [{"message": f"unknown operation {name}"}]}
        return {"data": known(body.get("variables") or {})}

    def stream(self, run: Run, body: dict[str, Any]) -> dict[str, Any]:
        files = body.get("files") or {}
        rows = files.get("wandb-history.jsonl", {"offset": 0, "content": []})
        for number, line in enumerate(rows["content"]):
            run.history[rows["offset"] + number] = json.loads(line)
        for line in files.get("wandb-summary.json", {"content": []})["content"]:
            run.summary.update(json.loads(line))
        if body.get("complete"):
            run.state = "finished" if body.get("exitcode") == 0 else "failed"
            run.live = False
        if self.leave_after is not None and len(run.history) >= self.leave_after:
            threading.Thread(target=self.stop, daemon=True).start()
        return {"exitcode": None, "limits": {}, "stopped": False}

    def on_viewer(self, given: dict[str, Any]) -> Any:
        teams = {"edges": [{"node": {"name": ENTITY}}]}
        return {
            "viewer": {
                "id": "1",
                "entity": ENTITY,
                "username": ENTITY,
                "name": ENTITY,
                "email": "x@localhost",
                "flags": "{}",
                "admin": False,
                "deletedAt": None,
                "teams": teams,
                "apiKeys": {"edges": []},
            }
        }

    def on_serverfeaturesquery(self, given: dict[str, Any]) -> Any:
        version = {"max_cli_version": "99.0.0"}
        return {"serverInfo": {"features": [], "cliVersionInfo": version, "latestLocalVersionInfo": None}}

    def on_upsertsweep(self, given: dict[str, Any]) -> Any:
        name = given.get("id") or f"sweep{len(self.sweeps)}"
        sweep = self.sweeps.setdefault(name, {"state": "RUNNING", "project": given.get("projectName") or "p"})
        if given.get("config"):
            sweep["config"] = yaml.safe_load(given["config"])
        if given.get("state"):
            sweep["state"] = given["state"]
        found = {"name": name, "project": project(sweep["project"])}
        return {"upsertSweep": {"sweep": found, "configValidationWarnings": []}}

    def on_sweepwithruns(self, given: dict[str, Any]) -> Any:
        name = given["sweep"]
        if name not in self.sweeps:
            return {"project": None}
        sweep = self.sweeps[name]
        nodes = [{"node": self.node(run)} for run in self.of_sweep(name)]
        found = {
            "id": name,
            "name": name,
            "method": sweep["config"]["method"],
            "state": sweep["state"],
            "description": None,
            "config": yaml.safe_dump(sweep["config"]),
            "createdAt": TIME,
            "heartbeatAt": TIME,
            "updatedAt": TIME,
            "earlyStopJobRunning": False,
            "bestLoss": None,
            "controller": None,
            "scheduler": None,
            "runs": {"edges": nodes},
        }
        return {"project": {"sweep": found}}

    def on_getsweepstate(self, given: dict[str, Any]) -> Any:
        return {"project": {"sweep": {"state": self.sweeps[given["sweep"]]["state"]}}}

    def node(self, run: Run) -> dict[str, Any]:
        return {
            "name": run.name,
            "state": run.state,
            "config": json.dumps(run.config),
            "exitcode": None,
            "shouldStop": False,
            "heartbeatAt": TIME,
            "failed": run.state == "failed",
            "stopped": False,
            "running": run.state == "running",
            "summaryMetrics": json.dumps(run.summary),
            "sampledHistory": [[]],
        }

    def of_sweep(self, name: str) -> list[Run]:
        return [run for run in self.runs.values() if run.sweep == name]

    def on_createagent(self, given: dict[str, Any]) -> Any:
        name = f"agent{len(self.agents)}"
        self.agents[name] = given["sweep"]
        return {"createAgent": {"agent": {"id": name}}}

    def on_heartbeat(self, given: dict[str, Any]) -> Any:
        commands = self.commands(self.agents[given["id"]], json.loads(given.get("runState") or "{}"))
        return {"agentHeartbeat": {"agent": {"id": given["id"]}, "commands": json.dumps(commands)}}

    def commands(self, name: str, alive: dict[str, bool]) -> list[dict[str, Any]]:
        sweep = self.sweeps[name]
        for run in self.of_sweep(name):
            if run.state == "running" and run.live and run.name not in alive:
                run.state, run.live = "crashed", False
            run.live = run.live or run.name in alive
        if sweep["state"] in ("CANCELED", "FINISHED"):
            return [{"type": "exit"}]
        # One at a time: a trial that has told W&B its end still writes its table.
        waiting = any(run.state == "running" for run in self.of_sweep(name))
        if alive or waiting or sweep["state"] == "PAUSED":
            return []
        return [self.next_command(name, sweep)]

    def next_command(self, name: str, sweep: dict[str, Any]) -> dict[str, Any]:
        kind, states = engine().SweepRun, ("finished", "failed", "crashed")
        done = [kind(name=run.name, state=run.state, config=run.config) for run in self.of_sweep(name)]
        found = engine().next_run(sweep["config"], done) if all(run.state in states for run in done) else None
        if found is None:
            sweep["state"] = "FINISHED"
            return {"type": "exit"}
        config = {key: {"value": plain_value(entry["value"])} for key, entry in found.config.items()}
        run = Run(f"trial{len(self.runs)}", sweep=name, config=config)
        self.runs[run.name] = run
        command = {"type": "run", "id": run.name, "run_id": run.name, "program": None, "args": config, "logs": []}
        return {**command, "program": sweep["config"].get("program", "")}

    def on_upsertbucket(self, given: dict[str, Any]) -> Any:
        new = given["name"] not in self.runs
        run = self.runs.setdefault(given["name"], Run(given["name"]))
        run.sweep = run.sweep or given.get("sweep") or ""
        run.display = given.get("displayName") or run.display
        if run.state in ("finished", "failed"):
            run.state = "running"
        for key, into in (("config", run.config), ("summaryMetrics", run.summary)):
            into.update(json.loads(given.get(key) or "{}"))
        return {"upsertBucket": {"inserted": new, "bucket": bucket(run, given.get("project") or "p")}}

    def on_runresumestatus(self, given: dict[str, Any]) -> Any:
        found, run = {"id": "1", "name": "p", "entity": {"id": "1", "name": ENTITY}}, self.runs.get(given["name"])
        if run is None:
            return {"model": {**found, "bucket": None}}
        tail = json.dumps([json.dumps(row) for _, row in sorted(run.history.items())][-1:])
        more = {
            "summaryMetrics": json.dumps(run.summary),
            "historyTail": tail,
            "eventsTail": "[]",
            "logLineCount": 0,
            "eventsLineCount": 0,
            "tags": [],
            "wandbConfig": json.dumps({"t": {"value": 1}}),
        }
        return {"model": {**found, "bucket": {**bucket(run, "p"), **more}}}

    def on_createrunfiles(self, given: dict[str, Any]) -> Any:
        files = [{"name": name, "uploadUrl": f"{self.url}/put/{number}"} for number, name in enumerate(given["files"])]
        return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}


def project(name: str) -> dict[str, Any]:
    """Returns a project as replies have it."""
    return {"id": "1", "name": name, "entity": {"id": "1", "name": ENTITY}}


def bucket(run: Run, name: str) -> dict[str, Any]:
    """Returns a run as replies have it."""
    return {
        "id": run.name,
        "name": run.name,
        "displayName": run.display or run.name,
        "description": "",
        "config": json.dumps(run.config),
        "sweepName": run.sweep or None,
        "project": project(name),
        "historyLineCount": len(run.history),
        "createdAt": TIME,
        "updatedAt": TIME,
    }
