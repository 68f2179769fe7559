// node score.mjs: scores one transaction of the demo and prints the answer, or what was wrong, as JSON. README.md has the options.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { AssayClient, ScoreError } from './client.mjs';

const { values: options } = parseArgs({
  options: {
    target: { type: 'string', default: '127.0.0.1:50051' },
    package: { type: 'string', default: fileURLToPath(new URL('../../server/assay', import.meta.url)) },
    'timeout-ms': { type: 'string', default: '1000' },
    fallback: { type: 'string' },
    amount: { type: 'string', default: '5716n' },
    'tls-ca': { type: 'string' },
    'tls-certificate': { type: 'string' },
    'tls-key': { type: 'string' },
    'tls-server-name': { type: 'string' },
  },
});
const read = (path) => (path === undefined ? null : readFileSync(path));
const tls = {
  ca: read(options['tls-ca']),
  certificate: read(options['tls-certificate']),
  key: read(options['tls-key']),
  serverName: options['tls-server-name'],
};

const client = new AssayClient(options.target, {
  packageDir: options.package,
  tls: Object.values(tls).some(Boolean) ? tls : null, // any of them means TLS: never plaintext by oversight
  timeoutMs: Number(options['timeout-ms']),
  fallback: options.fallback ?? null,
});
const { amount } = options;
try {
  const answer = await client.score({
    transaction_id: 'node-1',
    event_time: new Date('2018-05-09T10:30:00Z'),
    entities: { customer_id: '596', terminal_id: '3156' },
    features: { amount_minor: amount.endsWith('n') ? BigInt(amount.slice(0, -1)) : Number(amount) },
  });
  console.log(JSON.stringify({ ...answer, cause: answer.cause?.code }, null, 2));
} catch (error) {
  if (!(error instanceof ScoreError)) throw error;
  const { code, reason, message, violations, retryDelayMs } = error;
  console.log(JSON.stringify({ error: { code, reason, message, violations, retryDelayMs } }, null, 2));
  process.exitCode = 1;
} finally {
  client.close();
}
