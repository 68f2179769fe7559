// A small client for Node.js: the contract from assay's descriptor set, retries by its service config, a deadline on every call,
// errors decoded, the caller's own decision where there is no answer.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import grpc from '@grpc/grpc-js';
import { loadFileDescriptorSetFromBuffer } from '@grpc/proto-loader';

const { status } = grpc;

// Nothing is wrong with a request that ends so: the fallback decides. Everything else is the caller's to mend.
const NO_ANSWER = new Set([
  status.UNAVAILABLE, status.DEADLINE_EXCEEDED, status.RESOURCE_EXHAUSTED, status.INTERNAL, status.UNKNOWN, status.CANCELLED,
  status.ABORTED, status.DATA_LOSS,
]);

/** Why there is no score. `reason` and `violations[].reason` are sections of docs/errors.md. */
export class ScoreError extends Error {
  constructor(failure, { reason = '', violations = [], retryDelayMs = null } = {}) {
    super(failure.details);
    Object.assign(this, { name: 'ScoreError', code: status[failure.code], reason, violations, retryDelayMs });
    this.isNoAnswer = NO_ANSWER.has(failure.code);
  }
}

export class AssayClient {
  /**
   * packageDir: the folder `assay` of the Python package (or of the repository), for its descriptor set and service config.
   * tls: { ca, certificate, key, serverName }, PEM buffers; plaintext without it. fallback: a decision, for example 'REVIEW'.
   */
  constructor(target, { packageDir, tls = null, timeoutMs = 1000, fallback = null }) {
    this.contract = loadFileDescriptorSetFromBuffer(readFileSync(join(packageDir, 'v1', 'assay.binpb')), {
      enums: String, longs: String, defaults: true,
    });
    this.timeoutMs = timeoutMs;
    this.fallback = fallback;
    const options = { 'grpc.service_config': readFileSync(join(packageDir, 'client', 'service_config.json'), 'utf8') };
    if (tls?.serverName) options['grpc.ssl_target_name_override'] = tls.serverName;
    const credentials = tls
      ? grpc.credentials.createSsl(tls.ca ?? null, tls.key ?? null, tls.certificate ?? null)
      : grpc.credentials.createInsecure();
    const { ScoringService } = grpc.loadPackageDefinition(this.contract).assay.v1;
    this.stub = new ScoringService(target, credentials, options);
  }

  /**
   * transaction: { transaction_id, event_time: Date, entities, features }. Resolves to the contract's ScoreResponse with
   * isFallback; its score is null where no model scored. Rejects with ScoreError. Names are the contract's own.
   */
  async score(transaction) {
    try {
      const answer = await this.#call('score', encode(transaction));
      return { ...answer, score: answer.score ?? null, decision: answer.decision.replace('DECISION_', ''), isFallback: false };
    } catch (error) {
      if (!(error instanceof ScoreError) || !error.isNoAnswer || this.fallback === null) throw error;
      const { transaction_id } = transaction;
      return { transaction_id, score: null, decision: this.fallback, isFallback: true, cause: error };
    }
  }

  close() {
    this.stub.close();
  }

  #call(method, request) {
    return new Promise((resolve, reject) => {
      const deadline = Date.now() + this.timeoutMs;
      this.stub[method](request, { deadline }, (failure, answer) => {
        if (failure) reject(new ScoreError(failure, this.#details(failure)));
        else resolve(answer);
      });
    });
  }

  /** What google.rpc.Status in the trailers says; nothing where gRPC itself failed. */
  #details(failure) {
    const [bytes] = failure.metadata?.get('grpc-status-details-bin') ?? [];
    const found = {};
    if (bytes === undefined) return found;
    for (const detail of this.contract['google.rpc.Status'].deserialize(bytes).details) {
      const name = detail.type_url.split('/').at(-1);
      const value = this.contract[name]?.deserialize(detail.value);
      if (name === 'google.rpc.ErrorInfo') found.reason = value.reason;
      if (name === 'google.rpc.BadRequest') {
        found.violations = value.field_violations.map(({ field, reason, description }) => ({ field, reason, description }));
      }
      if (name === 'google.rpc.RetryInfo') {
        found.retryDelayMs = Number(value.retry_delay.seconds) * 1000 + value.retry_delay.nanos / 1e6;
      }
    }
    return found;
  }
}

function encode({ transaction_id, event_time, entities, features }) {
  const ms = event_time.getTime();
  const seconds = Math.floor(ms / 1000); // floored: before 1970 too
  return {
    transaction_id,
    event_time: { seconds, nanos: (ms - seconds * 1000) * 1e6 },
    entities: entries(entities, (name, value) => value),
    features: entries(features, encodeValue),
  };
}

/** A map field as on the wire, a list of entries: protobufjs does not know maps where it reads a descriptor set. */
function entries(object, encoded) {
  return Object.entries(object).map(([key, value]) => ({ key, value: encoded(key, value) }));
}

/** JavaScript has one type of number and assay converts nothing: 5716n is an int64, 57.16 a double. */
function encodeValue(name, value) {
  switch (typeof value) {
    case 'bigint':
      if (BigInt.asIntN(64, value) !== value) throw new RangeError(`features["${name}"] is past int64`);
      return { int64_value: String(value) };
    case 'number':
      return { double_value: value };
    case 'boolean':
      return { bool_value: value };
    case 'string':
      return { string_value: value };
    default:
      throw new TypeError(`features["${name}"] is ${typeof value}; expected bigint, number, boolean or string`);
  }
}
