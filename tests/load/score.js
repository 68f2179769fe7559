// k6 against a running server: distinct demo transactions at a constant rate of arrivals.
//
//   k6 run -e TARGET=127.0.0.1:50051 -e RATE=500 -e SECONDS=30 tests/load/score.js
//
// k6 itself stops at some ten thousand requests a second and core; what it could not send shows as dropped_iterations.
import { check } from "k6";
import { Client, StatusOK } from "k6/net/grpc";

const client = new Client();

export const options = {
  scenarios: {
    score: {
      executor: "constant-arrival-rate",
      rate: Number(__ENV.RATE || 500),
      timeUnit: "1s",
      duration: `${__ENV.SECONDS || 30}s`,
      preAllocatedVUs: 32,
      maxVUs: 128,
    },
  },
  thresholds: { checks: ["rate==1"] },
};

let isConnected = false;

export default function () {
  if (!isConnected) {
    client.connect(__ENV.TARGET || "127.0.0.1:50051", { plaintext: true, reflect: true });
    isConnected = true;
  }
  const answer = client.invoke(
    "assay.v1.ScoringService/Score",
    {
      transaction_id: `k6-${__VU}-${__ITER}`,
      event_time: "2018-05-09T10:30:00Z",
      entities: { customer_id: String((__VU * 7919 + __ITER) % 1000), terminal_id: String((__ITER * 104729) % 2000) },
      features: { amount_minor: { int64_value: String(100 + ((__ITER * 37) % 50000)) } },
    },
    { timeout: __ENV.TIMEOUT || "1s" },
  );
  check(answer, { scored: (a) => a && a.status === StatusOK && a.message.decision !== "DECISION_UNSPECIFIED" });
}
