#!/usr/bin/env node
// An app beside its Tenure sidecar: while it leads, it counts, five a second. Node 18 or newer.
//   tenure run --backend redis & examples/counter.mjs       beside a sidecar
//   tenure run --backend redis -- examples/counter.mjs      started by it
import { setTimeout as pause } from "node:timers/promises";

const api = process.env.TENURE_API || "http://127.0.0.1:4040";
const born = process.env.TENURE_FENCE_TOKEN; // given by `tenure run -- …`: leader by birth, nothing after that

// The status (0 where no answer came), the headers, the body.
async function ask(path, options = {}) {
  try {
    const answer = await fetch(api + path, { ...options, signal: AbortSignal.timeout(5000) });
    return { status: answer.status, headers: answer.headers, body: await answer.text() };
  } catch {
    return { status: 0, headers: new Headers(), body: "" };
  }
}

// The token while this node leads, what is left of its lease, who leads.
async function look() {
  const { status, headers } = await ask("/leader");
  const token = status === 200 ? headers.get("Tenure-Epoch") : null;
  return { token, left: headers.get("Tenure-Lease-Remaining-Ms"), leader: headers.get("Tenure-Leader") ?? "" };
}

// Counts until the leadership is over or in doubt.
async function lead(token) {
  const { status, headers, body } = await ask("/checkpoint");
  if (status !== 200 && status !== 404) return;
  let value = status === 200 ? Number(body) : 0; // 404: before the first write
  if (!Number.isSafeInteger(value)) throw new Error(`the checkpoint is no counter: ${body}`);
  let condition = status === 200 ? { "If-Match": headers.get("ETag") } : { "If-None-Match": "*" };
  console.log(`resumed epoch=${token} counter=${value}`);
  for (let now; (now = await look()).token === token; await pause(200)) { // before each act
    const fence = { "Fence-Token": token, ...condition };
    const written = await ask("/checkpoint", { method: "PUT", headers: fence, body: String(value + 1) });
    if (written.status !== 204) { // refused, or nobody knows: read before counting on
      return console.log(`stopped epoch=${token} counter=${value + 1} status=${written.status}`);
    }
    [value, condition] = [value + 1, { "If-Match": written.headers.get("ETag") }];
    console.log(`leader epoch=${token} counter=${value} lease_left=${now.left}ms`);
  }
}

for (let followed; ; await pause(200)) {
  const { token, leader } = await look();
  if (token && token === (born || token)) {
    followed = await lead(token);
  } else if (leader !== followed || born) {
    console.log(`follower leader=${leader}`);
    followed = born ? process.exit(1) : leader;
  }
}
