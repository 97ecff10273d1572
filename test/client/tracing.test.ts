import * as api from '@opentelemetry/api';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { registeredOpenTelemetry } from '../../src/client/open-telemetry.ts';
import type { ConsumerOptions } from '../../src/client/options.ts';
import { parseTraceparent, traceProperties } from '../../src/client/trace-context.ts';
import type { ClientOptions, LedgerClient, ReceivedMessage } from '../../src/index.ts';
import { BatchReader } from '../../src/protocol/record-batch-reader.ts';
import { ScriptedGroup } from '../support/scripted-broker.ts';
import { idOf, parentOf, RecordedSpans } from '../support/spans.ts';

// Before anybody has registered a provider.
const unregistered = registeredOpenTelemetry();
const spans = new RecordedSpans();
beforeEach(() => spans.forget());
afterAll(() => spans.unregister());

const TRACE_ID = '0af7651916cd43dd8448eb211c80319c';
const SPAN_ID = 'b7ad6b7169203331';

function setup(options: Partial<ClientOptions> = {}): { group: ScriptedGroup; client: LedgerClient } {
  const group = new ScriptedGroup();
  group.assignment = {
    group: 'cg',
    member: 'x',
    epoch: 1,
    queues: [{ topic: 't', queueId: 0, committedOffset: 0, epoch: 1 }],
    revoking: [],
  };
  return { group, client: group.client(options) };
}

async function consume(group: ScriptedGroup, client: LedgerClient, options: Partial<ConsumerOptions>): Promise<void> {
  const consumer = client.consumer({ group: 'cg', topics: ['t'], ...options });
  void consumer.start();
  await group.clock.run(5_000);
  const closed = consumer.close();
  await group.clock.run(1_000);
  await closed;
}

function propertiesOf(group: ScriptedGroup): Record<string, string>[] {
  return (group.stored.get(0) ?? []).flatMap(({ bytes, baseOffset }) => {
    const reader = new BatchReader(bytes, baseOffset);
    return Array.from({ length: reader.count }, (_, i) => Object.fromEntries(reader.properties(i)));
  });
}

describe('tracing', () => {
  test('F45 found by itself once a tracer provider is registered, and not before', () => {
    expect(unregistered).toBeNull();
    expect(registeredOpenTelemetry()?.trace.getTracer).toBeTypeOf('function');
  });

  test('F45 a message is one trace: send, store in it, receive and process behind it', async () => {
    const { group, client } = setup();
    const producer = client.producer();
    const outer = api.trace.getTracer('test').startSpan('outer');
    api.context.with(api.trace.setSpan(api.context.active(), outer), () => {
      void producer.send({ topic: 't', body: 'abc', properties: { mine: 'x' } });
    });
    await group.clock.run(100);
    let inside = '';
    await consume(group, client, {
      handler: async (message) => {
        await Promise.resolve();
        inside = api.trace.getActiveSpan()?.spanContext().spanId ?? '';
        expect(message.properties['mine']).toBe('x');
      },
    });
    const [send, store, receive, process] = ['send t', 'store t', 'receive t', 'process t'].map((name) => spans.named(name)[0]);
    expect(spans.all.map(({ name }) => name)).toEqual(['store t', 'send t', 'receive t', 'process t']);
    expect([send, store, receive, process].map(parentOf)).toEqual([outer.spanContext().spanId, idOf(send), idOf(send), idOf(receive)]);
    expect(new Set(spans.all.map((span) => span.spanContext().traceId))).toEqual(new Set([outer.spanContext().traceId]));
    expect(inside).toBe(idOf(process));
    expect([send, store, receive, process].map((span) => span?.kind)).toEqual([
      api.SpanKind.PRODUCER,
      api.SpanKind.CLIENT,
      api.SpanKind.CLIENT,
      api.SpanKind.CONSUMER,
    ]);
    expect(propertiesOf(group)).toEqual([{ mine: 'x', traceparent: `00-${outer.spanContext().traceId}-${idOf(send)}-01` }]);
    const common = { 'messaging.system': 'ledgermq', 'messaging.destination.name': 't', 'messaging.client.id': 'test' };
    const msgId = send?.attributes['messaging.message.id'];
    expect(msgId).toMatch(/^[0-9A-F]{32}$/);
    const place = { ...common, 'messaging.message.id': msgId, 'messaging.ledgermq.offset': 0, 'messaging.destination.partition.id': '0' };
    expect(send?.attributes).toMatchObject({ ...place, 'messaging.operation.type': 'send', 'messaging.message.body.size': 3 });
    expect(store?.attributes).toMatchObject({ ...place, 'messaging.operation.name': 'store' });
    expect(receive?.attributes).toMatchObject({ ...place, 'messaging.consumer.group.name': 'cg', 'messaging.operation.type': 'receive' });
    expect(process?.attributes).toMatchObject({ ...place, 'messaging.consumer.group.name': 'cg', 'messaging.operation.type': 'process' });
    outer.end();
  });

  test('F45 a failed attempt is a span with its error, the next one a span of its own; the message was received once', async () => {
    const { group, client } = setup();
    void client.producer().send({ topic: 't', body: 'a' });
    await group.clock.run(100);
    let calls = 0;
    await consume(group, client, {
      reconsumeBackoffBaseMs: 10,
      handler: () => {
        if (++calls === 1) throw new TypeError('no');
      },
    });
    const attempts = spans.named('process t');
    expect(
      attempts.map(({ status, attributes }) => [status.code, attributes['error.type'], attributes['messaging.ledgermq.reconsume_times']]),
    ).toEqual([
      [api.SpanStatusCode.ERROR, 'TypeError', undefined],
      [api.SpanStatusCode.UNSET, undefined, 1],
    ]);
    expect(spans.named('receive t')).toHaveLength(1);
    expect(attempts.map(parentOf)).toEqual([0, 1].map(() => idOf(spans.named('receive t')[0])));
  });

  test('F45 a call with several messages is linked to each', async () => {
    const { group, client } = setup();
    const producer = client.producer();
    for (const body of ['a', 'b', 'c']) void producer.send({ topic: 't', body });
    await group.clock.run(100);
    await consume(group, client, { batchHandler: () => {}, consumeMessageBatchMaxSize: 3 });
    const [process] = spans.named('process t');
    expect(process?.attributes['messaging.batch.message_count']).toBe(3);
    expect(process?.links.map(({ context }) => context.spanId)).toEqual(spans.named('receive t').map(idOf));
    expect(spans.named('receive t').map(parentOf)).toEqual(spans.named('send t').map(idOf));
  });

  test('F45 a loop over messages: a span from when it has one until it comes back or is left', async () => {
    const { group, client } = setup();
    const producer = client.producer();
    for (const body of ['a', 'b']) void producer.send({ topic: 't', body });
    await group.clock.run(100);
    const consumer = client.consumer({ group: 'cg', topics: ['t'] });
    const seen: ReceivedMessage[] = [];
    const loop = (async () => {
      for await (const message of consumer) {
        seen.push(message);
        expect(spans.named('process t')).toHaveLength(seen.length - 1);
        if (seen.length === 2) break;
      }
    })();
    await group.clock.run(1_000);
    await loop;
    expect(spans.named('process t')).toHaveLength(2);
  });

  test('F45 refused and unanswered sends end with their error, one-way ones when they have left; BUSY too', async () => {
    const { group, client } = setup();
    group.script = (batch) => (batch.bodies.includes('refused') ? 'NO_PERMISSION' : null);
    const producer = client.producer({ maxBufferedMessages: 2, maxWaitingSends: 0 });
    const refused = producer.send({ topic: 't', body: 'refused' }).catch(({ code }) => code);
    producer.sendOneWay({ topic: 't', body: 'gone' });
    const busy = producer.send({ topic: 't', body: 'busy' }).catch(({ code }) => code);
    const busyBatch = producer.sendBatch([{ topic: 't', body: 'busy' }]).catch(({ code }) => code);
    await group.clock.run(500);
    expect(await Promise.all([refused, busy, busyBatch])).toEqual(['NO_PERMISSION', 'BUSY', 'BUSY']);
    const outcomes = spans.named('send t').map(({ attributes }) => attributes['error.type'] ?? 'sent');
    expect(outcomes.toSorted()).toEqual(['BUSY', 'BUSY', 'NO_PERMISSION', 'sent']);
    expect(spans.named('store t')).toHaveLength(2);
  });

  test('F45 a traceparent of the user is kept and is the parent; properties that leave no room go without', async () => {
    const { group, client } = setup();
    const producer = client.producer();
    const traceparent = `00-${TRACE_ID}-${SPAN_ID}-01`;
    void producer.send({ topic: 't', body: 'a', properties: { traceparent, tracestate: 'a=1' } });
    void producer.send({ topic: 't', body: 'b', properties: { filler: 'x'.repeat(32_740) } });
    await group.clock.run(100);
    const [own, full] = propertiesOf(group) as [Record<string, string>, Record<string, string>];
    expect([own['traceparent'], own['tracestate'], full['traceparent']]).toEqual([traceparent, 'a=1', undefined]);
    const first = spans.named('send t').find((span) => span.spanContext().traceId === TRACE_ID);
    expect([parentOf(first), first?.parentSpanContext?.traceState?.serialize()]).toEqual([SPAN_ID, 'a=1']);
  });

  test('F45 without tracing a message carries nothing and makes no spans', async () => {
    const { group, client } = setup({ openTelemetry: false });
    void client.producer().send({ topic: 't', body: 'a' });
    await group.clock.run(100);
    let handled = 0;
    await consume(group, client, { handler: () => void handled++ });
    expect([handled, propertiesOf(group), spans.all.length]).toEqual([1, [{}], 0]);
  });

  test('F45 the API may be given; what a message carries is W3C, and what is not is passed over', () => {
    const context = { traceId: TRACE_ID, spanId: SPAN_ID, traceFlags: 1, traceState: api.createTraceState('k=v') };
    const carried = new Map(traceProperties(context));
    expect(carried.get('traceparent')).toBe(`00-${TRACE_ID}-${SPAN_ID}-01`);
    const parsed = parseTraceparent(api, carried.get('traceparent') as string, carried.get('tracestate'));
    expect(parsed).toMatchObject({ traceId: TRACE_ID, spanId: SPAN_ID, traceFlags: 1, isRemote: true });
    expect(parsed?.traceState?.serialize()).toBe('k=v');
    expect(parseTraceparent(api, `01-${TRACE_ID}-${SPAN_ID}-01-more`, undefined)).not.toBeNull();
    for (const wrong of [
      '',
      `00-${TRACE_ID}-${SPAN_ID}`,
      `ff-${TRACE_ID}-${SPAN_ID}-01`,
      `00-${TRACE_ID}-${SPAN_ID}-01-more`,
      `00-${'0'.repeat(32)}-${SPAN_ID}-01`,
      `00-${TRACE_ID}-${'0'.repeat(16)}-01`,
      `00-${TRACE_ID.toUpperCase()}-${SPAN_ID}-01`,
    ]) {
      expect(parseTraceparent(api, wrong, undefined)).toBeNull();
    }
    expect(setup({ openTelemetry: api }).client).toBeDefined();
  });
});
