import type { Clock } from '../io/clock.ts';
import { LedgerError } from '../protocol/errors.ts';
import type { ReceivedMessage } from './message.ts';
import {
  type OpenTelemetryApi,
  type OtelContext,
  type OtelSpan,
  type OtelSpanContext,
  type OtelTracer,
  registeredOpenTelemetry,
  SpanKind,
  STATUS_ERROR,
} from './open-telemetry.ts';
import { remoteContext, TRACEPARENT, traceProperties } from './trace-context.ts';
import type { BatchHandler, ConsumeContext, Message, SendResult } from './types.ts';

const LIBRARY = 'ledgermq';
const MESSAGING_SYSTEM = 'ledgermq';

type Operation = 'send' | 'store' | 'receive' | 'process';
type Attributes = Record<string, string | number>;

/**
 * Spans of a message's way (F45), by OpenTelemetry's conventions for messaging: `send` from the call to its outcome, `store` in it from
 * when the message left until it was acknowledged; `receive` from when it came to this process until its handler began, `process`
 * while the handler ran, active for what that does. A message carries its `send` as W3C `traceparent`, so the last two are its
 * children. Clients without tracing have null here, and pay a comparison for each message.
 */
export class Tracing {
  readonly #api: OpenTelemetryApi;
  readonly #tracer: OtelTracer;
  readonly #clock: Clock;
  readonly #clientId: string;
  /** Retried messages came once. */
  readonly #received = new WeakMap<ReceivedMessage, OtelSpan>();

  constructor(api: OpenTelemetryApi, clock: Clock, clientId: string) {
    this.#api = api;
    this.#tracer = api.trace.getTracer(LIBRARY);
    this.#clock = clock;
    this.#clientId = clientId;
  }

  /** @param wanted the API; false: no tracing; undefined: when a provider is registered in this process by now */
  static of(wanted: OpenTelemetryApi | false | undefined, clock: Clock, clientId: string): Tracing | null {
    const api = wanted === undefined ? registeredOpenTelemetry() : wanted;
    return api === null || api === false ? null : new Tracing(api, clock, clientId);
  }

  /** From the call of send(). A message that has a traceparent of its own keeps it, and its span is a child of that one. */
  send(message: Message, bodyBytes: number): SendTrace {
    const own = message.properties;
    const parent =
      own === undefined ? this.#api.context.active() : remoteContext(this.#api, (name) => own[name], this.#api.context.active());
    const span = this.#start('send', SpanKind.producer, message.topic, { 'messaging.message.body.size': bodyBytes }, parent);
    const properties = own?.[TRACEPARENT] === undefined ? traceProperties(span.spanContext()) : [];
    const context = this.#inside(parent, span);
    return new SendTrace(span, properties, () => this.#start('store', SpanKind.client, message.topic, {}, context));
  }

  /** A handler whose calls are spans. */
  traced(handler: BatchHandler, group: string): BatchHandler {
    return (messages, context) => {
      const { span, active } = this.#process(messages, group, context.reconsumeTimes);
      return this.#during(span, () => this.#api.context.with(active, () => handler(messages, context)), context);
    };
  }

  /** For iteration: the loop has the message. @returns to be called when the loop comes back, or is left */
  processing(message: ReceivedMessage, group: string): () => void {
    const { span } = this.#process([message], group, message.reconsumeTimes);
    return () => span.end();
  }

  #process(messages: readonly ReceivedMessage[], group: string, reconsumeTimes: number): { span: OtelSpan; active: OtelContext } {
    const received = messages.map((message) => this.#receive(message, group));
    const [message] = messages as readonly [ReceivedMessage];
    const one = messages.length === 1 ? (received[0] as OtelSpan) : null;
    // A call with several messages belongs to none of their traces: it is linked to all.
    const parent = one === null ? this.#api.context.active() : this.#inside(this.#api.ROOT_CONTEXT, one);
    const attributes = {
      'messaging.consumer.group.name': group,
      'messaging.destination.partition.id': String(message.queueId),
      ...(one === null ? { 'messaging.batch.message_count': messages.length } : placeOf(message)),
      ...(reconsumeTimes === 0 ? {} : { 'messaging.ledgermq.reconsume_times': reconsumeTimes }),
    };
    const links = one === null ? received.map((span) => ({ context: span.spanContext() })) : [];
    const span = this.#start('process', SpanKind.consumer, message.topic, attributes, parent, undefined, links);
    return { span, active: this.#inside(parent, span) };
  }

  #receive(message: ReceivedMessage, group: string): OtelSpan {
    const known = this.#received.get(message);
    if (known !== undefined) return known;
    const parent = remoteContext(this.#api, (name) => message.property(name), this.#api.ROOT_CONTEXT);
    const attributes = {
      'messaging.consumer.group.name': group,
      'messaging.destination.partition.id': String(message.queueId),
      'messaging.message.body.size': message.body.length,
      ...placeOf(message),
    };
    const span = this.#start('receive', SpanKind.client, message.topic, attributes, parent, message.receivedMs);
    span.end(this.#clock.monotonicMs());
    this.#received.set(message, span);
    return span;
  }

  #during(span: OtelSpan, work: () => Promise<void> | void, context: ConsumeContext): Promise<void> | void {
    let outcome: Promise<void> | void;
    try {
      outcome = work();
    } catch (error) {
      fail(span, error);
      throw error;
    }
    if (!isPromiseLike(outcome)) {
      end(span, context);
      return;
    }
    return outcome.then(
      () => end(span, context),
      (error: unknown) => {
        fail(span, error);
        throw error;
      },
    );
  }

  #inside(context: OtelContext, span: OtelSpan): OtelContext {
    return this.#api.trace.setSpan(context, span as never);
  }

  #start(
    operation: Operation,
    kind: number,
    topic: string,
    more: Attributes,
    parent: OtelContext,
    startTime?: number,
    links: { context: OtelSpanContext }[] = [],
  ): OtelSpan {
    const attributes = {
      'messaging.system': MESSAGING_SYSTEM,
      'messaging.operation.name': operation,
      ...(operation === 'store' ? {} : { 'messaging.operation.type': operation }),
      'messaging.destination.name': topic,
      'messaging.client.id': this.#clientId,
      ...more,
    };
    const options = { kind, attributes, links, ...(startTime === undefined ? {} : { startTime }) };
    return this.#tracer.startSpan(`${operation} ${topic}`, options, parent);
  }
}

/** The spans of one message that is being sent. */
export class SendTrace {
  readonly #span: OtelSpan;
  readonly #startStore: () => OtelSpan;
  #store: OtelSpan | null = null;
  /** What the message carries. */
  readonly properties: readonly (readonly [string, string])[];

  constructor(span: OtelSpan, properties: readonly (readonly [string, string])[], startStore: () => OtelSpan) {
    this.#span = span;
    this.properties = properties;
    this.#startStore = startStore;
  }

  /** It is in a frame; sent again, it is still on its way. */
  left(): void {
    this.#store ??= this.#startStore();
  }

  stored({ msgId, queueId, offset }: SendResult): void {
    const place = {
      'messaging.message.id': msgId,
      'messaging.destination.partition.id': String(queueId),
      ...(offset === null ? {} : { 'messaging.ledgermq.offset': offset }),
    };
    for (const span of [this.#store, this.#span]) {
      span?.setAttributes(place);
      span?.end();
    }
  }

  /** A one-way message has left, and nobody will say more. */
  gone(): void {
    this.#store?.end();
    this.#span.end();
  }

  failed(error: LedgerError): void {
    for (const span of [this.#store, this.#span]) if (span !== null) fail(span, error);
  }
}

function placeOf({ msgId, offset }: ReceivedMessage): Attributes {
  return { 'messaging.message.id': msgId, 'messaging.ledgermq.offset': offset };
}

/** A handler may say that some of its messages were not done without failing. */
function end(span: OtelSpan, { ackIndex }: ConsumeContext): void {
  if (ackIndex !== null) span.setAttributes({ 'messaging.ledgermq.ack_index': ackIndex });
  span.end();
}

function fail(span: OtelSpan, error: unknown): void {
  const type = error instanceof LedgerError ? error.code : error instanceof Error ? error.name : typeof error;
  span.setAttributes({ 'error.type': type });
  span.setStatus({ code: STATUS_ERROR, message: error instanceof Error ? error.message : String(error) });
  span.end();
}

function isPromiseLike(value: unknown): value is Promise<void> {
  return typeof value === 'object' && value !== null && 'then' in value;
}
