"""A user of upstream's Python SDK with real containers behind the gateway. Prints one JSON object.

KUBECONFIG names the cluster, and kubectl is on the PATH. Each client claims a warm sandbox, runs commands, keeps files, and goes on after the idle policy suspended the sandbox.
"""

import asyncio
import hashlib
import io
import json
import sys
import threading
import time

from k8s_agent_sandbox import AsyncSandboxClient, SandboxClient
from k8s_agent_sandbox.exceptions import SandboxRequestError
from k8s_agent_sandbox.models import SandboxDirectConnectionConfig, SandboxLocalTunnelConnectionConfig
from kubernetes import client, config

kubeconfig, namespace, pool, url, megabytes = sys.argv[1:]
api = config.new_client_from_config(config_file=kubeconfig)
LARGE = b"0123456789abcdef" * (int(megabytes) << 16)
NAMES = ["plain.txt", "a b/c d.txt", "a b/ü%2F#?.txt"]
READY = 240


def suspended(name):
    """Waits until the idle policy has suspended a sandbox and its pod is gone."""
    objects, deadline = client.CustomObjectsApi(api), time.monotonic() + READY
    while time.monotonic() < deadline:
        found = objects.get_namespaced_custom_object("agents.x-k8s.io", "v1beta1", namespace, "sandboxes", name)
        status = found.get("status", {})
        reasons = {c["type"]: c["reason"] for c in status.get("conditions", [])}
        if status.get("suspendedBy") == "Idle" and reasons.get("Suspended") == "PodTerminated":
            return
        time.sleep(0.2)
    raise TimeoutError(f"{name} was not suspended")


def outcome(result):
    return {"stdout": result.stdout, "stderr": result.stderr, "exit_code": result.exit_code}


def status_of(call):
    try:
        call()
        return "no error"
    except SandboxRequestError as error:
        return error.status_code


def sync(connection):
    sandboxes = SandboxClient(connection_config=connection, api_client=api)
    box = sandboxes.create_sandbox(pool, namespace=namespace, sandbox_ready_timeout=READY)
    try:
        seen = {"sandbox": box.sandbox_id, "kernel": box.commands.run("cat /proc/version").stdout}
        seen["failure"] = outcome(box.commands.run("sh -c 'echo out; echo err >&2; exit 3'"))
        seen["missing"] = outcome(box.commands.run("no-such-program"))
        seen["limit"] = box.commands.run("sleep 60", command_timeout=1.5).timed_out
        began = time.monotonic()
        long = threading.Thread(target=lambda: seen.update(long=outcome(box.commands.run("sleep 35"))))
        long.start()
        for name in NAMES:
            box.files.write(name, f"content of {name}")
        seen["files"] = {name: box.files.read(name).decode() for name in NAMES}
        seen["listed"] = sorted(entry.name for entry in box.files.list("a b"))
        seen["here"] = {entry.name: entry.type for entry in box.files.list(".")}
        seen["exists"] = [box.files.exists(NAMES[1]), box.files.exists("a b/nothing")]
        seen["no_file"] = status_of(lambda: box.files.read("a b/nothing"))
        box.files.write("large", LARGE, timeout=300)
        box.files.write("streamed", io.BytesIO(LARGE), timeout=300)
        digest = hashlib.sha256(LARGE).hexdigest()
        seen["large"] = [hashlib.sha256(box.files.read(name, timeout=300)).hexdigest() == digest
                         for name in ("large", "streamed")]
        long.join()
        seen["long_s"] = time.monotonic() - began
        seen["first_ip"] = box.get_pod_ip()
        suspended(box.sandbox_id)
        # A request that the SDK never repeats. It still carries the address of the pod that is gone.
        began = time.monotonic()
        seen["woken"] = outcome(box.commands.run("cat '/workspace/a b/c d.txt'"))
        seen["woken_s"] = time.monotonic() - began
        suspended(box.sandbox_id)
        seen["read_woken"] = box.files.read(NAMES[2]).decode()
        return seen
    finally:
        sandboxes.delete_sandbox(box.claim_name, namespace=namespace)


async def asynchronous(connection):
    async with AsyncSandboxClient(connection_config=connection) as sandboxes:
        box = await sandboxes.create_sandbox(pool, namespace=namespace, sandbox_ready_timeout=READY)
        try:
            seen = {"sandbox": box.sandbox_id, "kernel": (await box.commands.run("cat /proc/version")).stdout}
            seen["failure"] = outcome(await box.commands.run("sh -c 'echo out; echo err >&2; exit 3'"))
            began = time.monotonic()
            long = asyncio.create_task(box.commands.run("sleep 35"))
            for name in NAMES:
                await box.files.write(name, f"content of {name}")
            seen["files"] = {name: (await box.files.read(name)).decode() for name in NAMES}
            seen["listed"] = sorted(entry.name for entry in await box.files.list("a b"))
            seen["exists"] = [await box.files.exists(NAMES[1]), await box.files.exists("a b/nothing")]
            seen["long"] = outcome(await long)
            seen["long_s"] = time.monotonic() - began
            await asyncio.to_thread(suspended, box.sandbox_id)
            seen["woken"] = outcome(await box.commands.run("cat '/workspace/a b/c d.txt'"))
            return seen
        finally:
            await sandboxes.delete_sandbox(box.claim_name, namespace=namespace)


def concurrently(**work):
    """Runs each function in a thread, and returns the results by name."""
    results = {}

    def run(name, function):
        try:
            results[name] = function()
        except Exception as error:
            results[name] = {"error": f"{type(error).__name__}: {error}"}

    threads = [threading.Thread(target=run, args=pair) for pair in work.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


direct = SandboxDirectConnectionConfig(api_url=url)
print(json.dumps(concurrently(
    direct=lambda: sync(direct),
    tunnel=lambda: sync(SandboxLocalTunnelConnectionConfig()),
    asynchronous=lambda: asyncio.run(asynchronous(direct)),
)))
