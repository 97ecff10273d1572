import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { RaftStatus } from '../protocol/raft-requests.ts';

/** What a check found. `detail` says why it fails, or what it waits for. */
export interface HealthVerdict {
  readonly ok: boolean;
  readonly detail?: string;
}

/** One named check. Cheap and synchronous: a probe must not queue behind the disk. */
export interface HealthCheck {
  readonly name: string;
  readonly check: () => HealthVerdict;
}

/** Split by who asks: restart the process? send it clients? has it started at all? */
export interface HealthChecks {
  readonly livez: readonly HealthCheck[];
  readonly readyz: readonly HealthCheck[];
  readonly startupz: readonly HealthCheck[];
}

/** /api/status: what this replica says of itself, whoever leads. Further fields may be added. */
export interface AdminStatus extends RaftStatus {
  readonly clusterId: string;
  /** Of the package. */
  readonly version: string;
  readonly uptimeMs: number;
}

export interface AdminHttpSources {
  readonly health: HealthChecks;
  readonly metricsContentType: string;
  readonly metrics: () => Promise<string>;
  readonly status: () => AdminStatus;
}

export interface AdminHttp {
  readonly port: number;
  close(): Promise<void>;
}

const MAX_CONNECTIONS = 64;
const MAX_HEADER_BYTES = 8192;
const HEADERS_TIMEOUT_MS = 5000;
const REQUEST_TIMEOUT_MS = 10_000;
const KEEP_ALIVE_MS = 5000;

/**
 * Port P+2: /metrics, /livez, /readyz, /startupz, /api/status. Reads only; asks no consensus, so it answers without a leader.
 *
 * A health path answers 200 `ok` or 503 with the failed checks; `?verbose` lists all, `?exclude=NAME` leaves one out,
 * `/readyz/NAME` asks one alone (the conventions of etcd and Kubernetes).
 * @param port 0 takes a free one
 */
export function startAdminHttp(host: string, port: number, sources: AdminHttpSources): Promise<AdminHttp> {
  const server = createServer(
    {
      maxHeaderSize: MAX_HEADER_BYTES,
      headersTimeout: HEADERS_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      keepAliveTimeout: KEEP_ALIVE_MS,
      connectionsCheckingInterval: HEADERS_TIMEOUT_MS,
    },
    (request, response) => {
      answer(sources, request, response).catch((error: unknown) => {
        if (!response.headersSent) send(response, 500, 'text/plain', `${(error as Error).message}\n`);
        else response.destroy();
      });
    },
  );
  server.maxConnections = MAX_CONNECTIONS;
  server.maxRequestsPerSocket = 1000;
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      server.removeListener('error', reject);
      // A socket's error ends that socket; without a listener an accept error (EMFILE) would end the broker.
      server.on('error', () => undefined);
      resolve({ port: (server.address() as AddressInfo).port, close: () => close(server) });
    });
  });
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}

async function answer(sources: AdminHttpSources, request: IncomingMessage, response: ServerResponse): Promise<void> {
  request.resume();
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.setHeader('allow', 'GET, HEAD');
    send(response, 405, 'text/plain', 'only GET and HEAD\n');
    return;
  }
  const url = URL.parse(request.url ?? '/', 'http://admin');
  const [, path = '', name] = (url?.pathname ?? '').split('/');
  if (path === 'metrics') {
    send(response, 200, sources.metricsContentType, await sources.metrics());
  } else if (path === 'livez' || path === 'readyz' || path === 'startupz') {
    health(response, path, sources.health[path], name, url?.searchParams ?? new URLSearchParams());
  } else if (path === 'api' && name === 'status') {
    send(response, 200, 'application/json', `${JSON.stringify(sources.status())}\n`);
  } else {
    send(response, 404, 'text/plain', 'try /metrics /livez /readyz /startupz /api/status\n');
  }
}

function health(
  response: ServerResponse,
  path: string,
  checks: readonly HealthCheck[],
  only: string | undefined,
  query: URLSearchParams,
): void {
  const excluded = query.getAll('exclude');
  const asked = checks.filter((check) => (only === undefined ? !excluded.includes(check.name) : check.name === only));
  if (only !== undefined && asked.length === 0) {
    send(response, 404, 'text/plain', `no check ${only}\n`);
    return;
  }
  const lines: string[] = [];
  let failed = 0;
  for (const { name, check } of asked) {
    const { ok, detail } = runCheck(check);
    if (!ok) failed++;
    lines.push(`[${ok ? '+' : '-'}]${name} ${ok ? 'ok' : 'failed'}${detail === undefined ? '' : `: ${detail}`}`);
  }
  const verbose = query.has('verbose') || failed > 0;
  const verdict = failed === 0 ? (verbose ? `${path} check passed` : 'ok') : `${path} check failed`;
  send(response, failed === 0 ? 200 : 503, 'text/plain', `${verbose ? [...lines, verdict].join('\n') : verdict}\n`);
}

/** A check that throws has failed: a probe never gets 500 for a broken broker. */
function runCheck(check: () => HealthVerdict): HealthVerdict {
  try {
    return check();
  } catch (error) {
    return { ok: false, detail: (error as Error).message };
  }
}

function send(response: ServerResponse, status: number, type: string, body: string): void {
  response.writeHead(status, {
    'content-type': type,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
  });
  response.end(response.req.method === 'HEAD' ? undefined : body);
}
