import * as api from '@opentelemetry/api';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { idOf, parentOf, RecordedSpans } from '../support/spans.ts';
import { TestCluster, until } from './test-cluster.ts';

let cluster: TestCluster;
const spans = new RecordedSpans();
beforeAll(async () => {
  cluster = await TestCluster.start();
});
afterAll(async () => {
  await cluster.stop();
  spans.unregister();
});

test('F45 one trace over two topics and three replicas: what a handler sends belongs to the message that it handles', async () => {
  await cluster.createTopic('f45-orders', 2);
  await cluster.createTopic('f45-invoices', 1);
  const client = cluster.client();
  const producer = client.producer();
  const orders = client.consumer({
    group: 'f45-orders',
    topics: ['f45-orders'],
    consumeFromWhere: 'first',
    handler: async (order) => void (await producer.send({ topic: 'f45-invoices', body: `invoice of ${order.text()}` })),
  });
  const invoices: string[] = [];
  const last = client.consumer({
    group: 'f45-invoices',
    topics: ['f45-invoices'],
    consumeFromWhere: 'first',
    handler: (invoice) => void invoices.push(invoice.text()),
  });
  await Promise.all([orders.start(), last.start()]);
  const outer = api.trace.getTracer('shop').startSpan('checkout');
  await api.context.with(api.trace.setSpan(api.context.active(), outer), () => producer.send({ topic: 'f45-orders', body: 'order 1' }));
  outer.end();
  // Down the tree, each the child of the one before.
  const way = [
    'send f45-orders',
    'receive f45-orders',
    'process f45-orders',
    'send f45-invoices',
    'receive f45-invoices',
    'process f45-invoices',
  ];
  // A handler's span ends when what it sent is stored, and the invoice may be processed before that is heard.
  await until('every step is told', () => way.every((name) => spans.named(name).length === 1));
  expect(invoices).toHaveLength(1);
  const found = way.map((name) => spans.named(name)[0]);
  expect(found.map(parentOf)).toEqual([outer.spanContext().spanId, ...found.slice(0, -1).map(idOf)]);
  expect(parentOf(spans.named('store f45-invoices')[0])).toBe(idOf(found[3]));
  expect(new Set(found.map((span) => span?.spanContext().traceId))).toEqual(new Set([outer.spanContext().traceId]));
  // A message is received before it is processed, and both after it was sent.
  const starts = found.map((span) => (span?.startTime[0] ?? 0) * 1e9 + (span?.startTime[1] ?? 0));
  expect(starts.slice(0, 3)).toEqual(starts.slice(0, 3).toSorted((a, b) => a - b));
  await Promise.all([orders.close(), last.close()]);
});
