#!/usr/bin/env python3
"""An app beside its Tenure sidecar: while it leads, it counts, five a second.

    tenure run --backend redis & examples/counter.py       beside a sidecar
    tenure run --backend redis -- examples/counter.py      started by it
"""
import os, sys, time
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

SIDECAR = urlsplit(os.environ.get("TENURE_API") or "http://127.0.0.1:4040").netloc
BORN = os.environ.get("TENURE_FENCE_TOKEN")  # given by `tenure run -- …`: leader by birth, nothing after that

def ask(method, path, body=None, headers={}):
    """The status (0 where no answer came), the headers, the body."""
    connection = HTTPConnection(SIDECAR, timeout=5)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()
    except (OSError, HTTPException):
        return 0, {}, ""
    finally:
        connection.close()

def look():
    """The token while this node leads, what is left of its lease, who leads."""
    status, headers, _ = ask("GET", "/leader")
    token = headers.get("Tenure-Epoch") if status == 200 else None
    return token, headers.get("Tenure-Lease-Remaining-Ms"), headers.get("Tenure-Leader", "")

def lead(token):
    """Counts until the leadership is over or in doubt."""
    status, headers, body = ask("GET", "/checkpoint")
    if status not in (200, 404):
        return
    value = int(body) if status == 200 else 0  # 404: before the first write
    condition = {"If-Match": headers["ETag"]} if status == 200 else {"If-None-Match": "*"}
    print(f"resumed epoch={token} counter={value}", flush=True)
    while (now := look())[0] == token:  # before each act
        status, headers, _ = ask("PUT", "/checkpoint", str(value + 1), {"Fence-Token": token, **condition})
        if status != 204:  # refused, or nobody knows: read before counting on
            return print(f"stopped epoch={token} counter={value + 1} status={status}", flush=True)
        value, condition = value + 1, {"If-Match": headers["ETag"]}
        print(f"leader epoch={token} counter={value} lease_left={now[1]}ms", flush=True)
        time.sleep(0.2)

followed = None
while True:
    token, _, leader = look()
    if token and token == (BORN or token):
        followed = lead(token)
    elif leader != followed or BORN:
        print(f"follower leader={leader}", flush=True)
        followed = leader if not BORN else sys.exit(1)
    time.sleep(0.2)
