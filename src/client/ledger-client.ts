import { nodeIo } from '../io/node/io.ts';
import { LedgerError } from '../protocol/errors.ts';
import { type Assignment, PushKind, type RouteResponse } from '../protocol/requests.ts';
import type { TransactionCheckPush } from '../protocol/transaction-requests.ts';
import { Admin } from './admin.ts';
import { ClientCore } from './client-core.ts';
import { Connections } from './connections.ts';
import { Consumer } from './consumer.ts';
import type { ClientIo, Link } from './link.ts';
import { CLIENT_DEFAULTS, type ClientOptions, type ConsumerOptions, type ProducerOptions } from './options.ts';
import { PopConsumer, type PopConsumerOptions } from './pop/pop-consumer.ts';
import { Producer } from './producer.ts';
import { PullConsumer } from './pull-consumer.ts';
import { Router } from './router.ts';
import { Tracing } from './tracing.ts';
import { TransactionProducer, type TransactionProducerOptions } from './transaction-producer.ts';

const AGENT = 'ledgermq-node/0.1.0';
const MAX_PENDING_REQUESTS = 65_536;

/**
 * The way in: connections, routes, and what is made from them. One client for each process is enough; it may have any number
 * of producers and consumers. Nothing is awaited to make one: the first operation waits for what it needs.
 */
export class LedgerClient {
  readonly clientId: string;
  readonly #core: ClientCore;
  readonly #connections: Connections;
  readonly #router: Router;
  readonly #producers = new Set<Producer>();
  readonly #transactionProducers = new Set<TransactionProducer>();
  readonly #consumers = new Set<Consumer | PopConsumer>();
  #nextConsumer = 1;
  #closed = false;
  #closing: Promise<void> | null = null;

  /** @throws LedgerError BAD_REQUEST for an endpoint that is no ws:// address */
  constructor(options: ClientOptions) {
    const settings = { ...CLIENT_DEFAULTS, ...options };
    const io: ClientIo = options.io ?? nodeIo();
    this.clientId = options.clientId ?? `client-${io.random.u32().toString(36)}${io.random.u32().toString(36)}`;
    const { namespace, zone, credentials, requestTimeoutMs, keepAliveMs, maxFrameBytes } = settings;
    const hello = { clientId: this.clientId, namespace, zone, agent: AGENT };
    const reconnect = {
      baseMs: settings.reconnectBackoffBaseMs,
      factor: settings.reconnectBackoffFactor,
      capMs: settings.reconnectBackoffCapMs,
      jitter: true,
    };
    this.#connections = new Connections(
      io,
      {
        hello: credentials === undefined ? hello : { ...hello, credentials },
        requestTimeoutMs,
        reconnect,
        keepAliveMs,
        maxFrameBytes,
        maxPendingRequests: MAX_PENDING_REQUESTS,
      },
      {
        onReady: (link) => this.#router.linkReady(link),
        onLost: () => this.#router.linkLost(),
        onPush: (link, kind, body) => this.#pushed(link, kind, body),
      },
    );
    this.#router = new Router(io, this.#connections, {
      seeds: parseEndpoints(options.endpoints),
      requestTimeoutMs,
      refreshMs: settings.routeRefreshMs,
      backoff: reconnect,
    });
    const tracing = Tracing.of(options.openTelemetry, io.clock, this.clientId);
    this.#core = new ClientCore(io, this.#router, this.#connections, this.clientId, requestTimeoutMs, tracing);
    this.#router.start();
  }

  /** A producer with its own sequences: keep it and share it, one for each client is the usual number. */
  producer(options: ProducerOptions = {}): Producer {
    this.#assertOpen();
    const producer = new Producer(this.#core.io, this.#router, options, this.#core.tracing);
    this.#producers.add(producer);
    return producer;
  }

  /** A producer whose messages are seen only when a local transaction was committed. @throws LedgerError BAD_NAME */
  transactionProducer(options: TransactionProducerOptions): TransactionProducer {
    this.#assertOpen();
    const producer = new TransactionProducer(this.#core, options);
    this.#transactionProducers.add(producer);
    return producer;
  }

  /** A member of a consumer group; start() it, or iterate over it. @throws LedgerError BAD_NAME, BAD_REQUEST */
  consumer(options: ConsumerOptions): Consumer {
    this.#assertOpen();
    const consumer = new Consumer(this.#core, options, this.#nextConsumer++);
    this.#consumers.add(consumer);
    return consumer;
  }

  /** A consumer that shares a topic message by message, without owning queues (F25). @throws LedgerError BAD_NAME, BAD_REQUEST */
  popConsumer(options: PopConsumerOptions): PopConsumer {
    this.#assertOpen();
    const consumer = new PopConsumer(this.#core, options);
    this.#consumers.add(consumer);
    return consumer;
  }

  pullConsumer(): PullConsumer {
    this.#assertOpen();
    return new PullConsumer(this.#core);
  }

  admin(): Admin {
    this.#assertOpen();
    return new Admin(this.#core);
  }

  /** Closes consumers (handlers finish, offsets are committed), then producers (sends settle), then connections. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#consumers].map((consumer) => consumer.close()));
    await Promise.all([...this.#producers, ...this.#transactionProducers].map((producer) => producer.close()));
    this.#core.close();
    this.#router.close();
    this.#connections.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #pushed(link: Link, kind: number, body: unknown): void {
    if (kind === PushKind.routeChanged) this.#router.merge(body as RouteResponse);
    else if (kind === PushKind.assignment) {
      const brokerName = link.hello?.brokerName ?? '';
      for (const consumer of this.#consumers) if (consumer instanceof Consumer) consumer.pushed(brokerName, body as Assignment);
    } else if (kind === PushKind.transactionCheck) this.#checked(link.hello?.brokerName ?? '', body as TransactionCheckPush);
    else this.#router.suspect();
  }

  /** One of the group's producers answers for all of them. */
  #checked(brokerName: string, push: TransactionCheckPush): void {
    for (const producer of this.#transactionProducers) {
      if (producer.closed || producer.group !== push.producerGroup) continue;
      producer.pushed(brokerName, push);
      return;
    }
  }

  #assertOpen(): void {
    if (this.#closed) throw new LedgerError('CLOSED');
  }
}

function parseEndpoints(endpoints: string | readonly string[]): string[] {
  const list = (typeof endpoints === 'string' ? endpoints.split(',') : [...endpoints])
    .map((text) => text.trim())
    .filter((text) => text !== '');
  for (const endpoint of list) {
    if (!/^wss?:\/\/.+/.test(endpoint))
      throw new LedgerError('BAD_REQUEST', `endpoint ${JSON.stringify(endpoint)}: expected ws://host:port`);
  }
  if (list.length === 0) throw new LedgerError('BAD_REQUEST', 'no endpoint given');
  return list;
}
