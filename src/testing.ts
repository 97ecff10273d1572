/**
 * A real broker inside a test's own process: one replica, a temporary directory, free ports. It syncs to disk like any other.
 *
 *     import { startTestBroker } from 'ledgermq/testing';
 *
 *     await using broker = await startTestBroker({ topics: { orders: 4 } });
 *     await using client = new LedgerClient({ endpoints: broker.endpoint });
 */
import { LedgerClient } from './client/ledger-client.ts';
import { resolveConfig } from './config.ts';
import type { Io } from './io/io.ts';
import { nodeIo } from './io/node/io.ts';
import { makeTemporaryDirectory } from './io/node/temporary-directory.ts';
import { createLogger } from './metrics/logger.ts';
import { type Server, startServer } from './server.ts';

const HOST = '127.0.0.1';
/** Client port and the peers' port next to it: somebody else may take one between the look and the use. */
const MAX_PORT_TRIES = 20;
const READY_POLL_MS = 5;
const READY_TIMEOUT_MS = 30_000;
/** As small as a segment may be. */
const SEGMENT_BYTES = 16 * 1024 * 1024;

export interface TestBrokerOptions {
  /** Topics that are there when it is ready, with their numbers of queues. */
  readonly topics?: Readonly<Record<string, number>>;
  /** Log lines on standard output. Default: silent. */
  readonly logLevel?: 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent';
}

export interface TestBroker extends AsyncDisposable {
  /** ws://host:port */
  readonly endpoint: string;
  /** Ends the broker and deletes its directory. A second call waits for the same end. */
  stop(): Promise<void>;
}

/** Resolves when the broker is ready and the topics are made. Rejects when it cannot start; nothing is left behind then. */
export async function startTestBroker(options: TestBrokerOptions = {}): Promise<TestBroker> {
  const io = nodeIo();
  const directory = await makeTemporaryDirectory('ledgermq-test-');
  let server: Server | null = null;
  let stopped: Promise<void> | null = null;
  const stop = (): Promise<void> => {
    stopped ??= (async () => {
      await server?.drain();
      await server?.stop();
      await directory.remove();
    })();
    return stopped;
  };
  try {
    const started = await startOnFreePorts(io, directory.path, options.logLevel ?? 'silent');
    server = started.server;
    await ready(io, server);
    const endpoint = `ws://${HOST}:${started.port}`;
    await makeTopics(endpoint, options.topics ?? {});
    return { endpoint, stop, [Symbol.asyncDispose]: stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function startOnFreePorts(io: Io, dataDir: string, logLevel: string): Promise<{ server: Server; port: number }> {
  for (let tries = 1; ; tries++) {
    const port = await freePort(io);
    const config = resolveConfig({ flags: { port, dataDir, logLevel, segmentBytes: SEGMENT_BYTES } });
    const logger = createLogger({ level: logLevel, fields: { broker: config.brokerName }, clock: io.clock });
    try {
      return { server: await startServer(config, io, { logger, adminHttp: false }), port };
    } catch (error) {
      if (tries === MAX_PORT_TRIES || !String(error).includes('EADDRINUSE')) throw error;
    }
  }
}

async function freePort(io: Io): Promise<number> {
  const handlers = () => ({ onData: () => undefined, onClose: () => undefined });
  const listener = await io.net.listenStream(HOST, 0, handlers);
  await listener.close();
  return Math.min(listener.port, 65_000);
}

/** A group of one elects itself at once; its first entry has to reach the disk. */
async function ready({ clock }: Io, server: Server): Promise<void> {
  const deadlineMs = clock.monotonicMs() + READY_TIMEOUT_MS;
  while (server.broker?.ready !== true) {
    if (server.state === 'failed') throw await server.ended;
    if (clock.monotonicMs() > deadlineMs) throw new Error(`the broker is still ${server.state} after ${READY_TIMEOUT_MS} ms`);
    await new Promise<void>((resolve) => {
      clock.setTimer(READY_POLL_MS, resolve);
    });
  }
}

async function makeTopics(endpoint: string, topics: Readonly<Record<string, number>>): Promise<void> {
  if (Object.keys(topics).length === 0) return;
  await using client = new LedgerClient({ endpoints: endpoint });
  for (const [topic, queues] of Object.entries(topics)) await client.admin().createTopic(topic, { queues });
}
