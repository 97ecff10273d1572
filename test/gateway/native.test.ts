import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { BrokerHello, Request, RequestHandler, Session } from '../../src/broker/session.ts';
import type { GatewayLimits } from '../../src/gateway/limits.ts';
import { NativeGateway } from '../../src/gateway/native.ts';
import { NodeClock } from '../../src/io/node/clock.ts';
import { NodeNet } from '../../src/io/node/net.ts';
import { ERRORS, type ErrorCode } from '../../src/protocol/errors.ts';
import { type BrokerFrame, decodeBrokerFrame, encodeFrame, encodeRequest } from '../../src/protocol/frame.ts';
import { type HelloRequest, Op, PushKind, type RequestOp } from '../../src/protocol/requests.ts';
import { forEachSendAck } from '../../src/protocol/send-acks.ts';
import { FakeClock, type FakeConnection, FakeNet } from './fake-world.ts';

const HELLO: HelloRequest = { minVersion: 1, maxVersion: 3, clientId: 'c', namespace: '', zone: '', agent: 'test' };
const BROKER: BrokerHello = { clusterId: 'x', brokerName: 'a', replicaId: 1, maxBatchBytes: 1_000 };

/** Keeps what it is asked; the test answers. */
class Broker implements RequestHandler {
  readonly sessions: Session[] = [];
  readonly requests: Request[] = [];
  readonly drainedIds: number[] = [];
  readonly closedIds: number[] = [];
  answer: BrokerHello | ErrorCode = BROKER;

  opened(session: Session): BrokerHello | ErrorCode {
    if (typeof this.answer !== 'string') this.sessions.push(session);
    return this.answer;
  }
  request(_session: Session, request: Request): void {
    this.requests.push(request);
  }
  drained(session: Session): void {
    this.drainedIds.push(session.id);
  }
  closed(session: Session): void {
    this.closedIds.push(session.id);
  }
  get last(): Session {
    return this.sessions.at(-1) as Session;
  }
}

async function world(limits: Partial<GatewayLimits> = {}) {
  const clock = new FakeClock();
  const net = new FakeNet();
  const broker = new Broker();
  const refused: ErrorCode[] = [];
  const gateway = await NativeGateway.listen({
    clock,
    net,
    handler: broker,
    host: '',
    port: 0,
    limits,
    onRefused: (code) => refused.push(code),
  });
  const client = (hello: HelloRequest | null = HELLO): FakeConnection => {
    const connection = net.connect();
    if (hello !== null) connection.receive(encodeRequest(Op.hello, 1, 0, hello));
    return connection;
  };
  return { clock, net, broker, refused, gateway, client };
}

/** Everything sent to the client since the last call. */
function read(connection: FakeConnection, op: RequestOp = Op.ping): BrokerFrame[] {
  return connection.sent.splice(0).map((frame) => decodeBrokerFrame(frame, () => op));
}
/** Everything that promises have to say without time going on. */
async function settle(): Promise<void> {
  for (let i = 0; i < 10; i++) await Promise.resolve();
}
function goAway(code: ErrorCode): object {
  return { kind: 'push', push: { kind: PushKind.goAway, body: { error: ERRORS[code].number } } };
}
function send(requestId: number, sizeBytes: number, oneWay = false): Uint8Array {
  return encodeRequest(
    Op.send,
    requestId,
    0,
    { oneWay, replication: 0, parts: [{ topic: 't', queueId: 0, sizeBytes }] },
    new Uint8Array(sizeBytes),
  );
}

describe('native gateway: hello', () => {
  test('hello is answered with the broker’s identity and the gateway’s limits', async () => {
    const { client, broker, gateway } = await world({ sendWindowBytes: 777, maxFrameBytes: 888 });
    const connection = client();
    expect(read(connection, Op.hello)).toEqual([
      { kind: 'response', requestId: 1, body: { ...BROKER, version: 1, maxFrameBytes: 888, sendWindowBytes: 777 }, raw: new Uint8Array(0) },
    ]);
    expect(broker.last).toMatchObject({ clientId: 'c', address: '192.0.2.1:5', congested: false, closed: false });
    expect(gateway.counts()).toEqual({ connections: 1, pendingRequests: 0 });
    connection.destroy();
    expect(broker.closedIds).toEqual([broker.last.id]);
    expect(gateway.counts()).toEqual({ connections: 0, pendingRequests: 0 });
  });

  test.each<[string, Uint8Array, ErrorCode]>([
    ['another operation first', encodeRequest(Op.ping, 1, 0, {}), 'BAD_REQUEST'],
    ['no shared version', encodeRequest(Op.hello, 1, 0, { ...HELLO, minVersion: 2 }), 'UNSUPPORTED_VERSION'],
    ['garbage', Uint8Array.of(1, 2, 3), 'BAD_REQUEST'],
  ])('%s: told why, then closed; the broker never hears of it', async (_, frame, code) => {
    const { client, broker, refused } = await world();
    const connection = client(null);
    connection.receive(frame);
    expect(read(connection).at(-1)).toMatchObject(goAway(code));
    expect([connection.closing, refused, broker.sessions.length]).toEqual([true, [code], 0]);
    connection.destroy();
    expect(broker.closedIds).toEqual([]);
  });

  test('the broker may refuse, a silent client is closed in time', async () => {
    const { client, broker, clock, refused } = await world({ helloTimeoutMs: 100 });
    broker.answer = 'NO_PERMISSION';
    const denied = client();
    expect(read(denied)).toMatchObject([{ kind: 'error', error: ERRORS.NO_PERMISSION.number }, goAway('NO_PERMISSION')]);
    expect(denied.closing).toBe(true);
    const silent = client(null);
    clock.advance(99);
    expect(silent.closing).toBe(false);
    clock.advance(1);
    expect([silent.closing, refused.at(-1)]).toEqual([true, 'DEADLINE_EXCEEDED']);
  });

  test('connections beyond the bound are turned away; one that left makes room', async () => {
    const { client, broker } = await world({ maxConnections: 1 });
    const first = client();
    const second = client();
    expect(read(second).at(-1)).toMatchObject(goAway('TOO_MANY'));
    expect(broker.sessions.length).toBe(1);
    first.destroy();
    second.destroy();
    client();
    expect(broker.sessions.length).toBe(2);
  });
});

describe('native gateway: requests', () => {
  test('answers reach the client, each once; those after the end are harmless', async () => {
    const { client, broker, gateway } = await world();
    const connection = client();
    read(connection);
    connection.receive(encodeRequest(Op.ping, 7, 500, {}));
    connection.receive(encodeRequest(Op.ping, 8, 0, {}));
    expect(broker.requests).toMatchObject([
      { op: Op.ping, requestId: 7, deadlineMs: 500 },
      { op: Op.ping, requestId: 8 },
    ]);
    expect(gateway.counts().pendingRequests).toBe(2);
    broker.last.respond(Op.ping, 8, {});
    broker.last.respond(Op.ping, 8, {});
    broker.last.refuse(7, 'BUSY', 'why');
    expect(read(connection)).toMatchObject([
      { kind: 'response', requestId: 8 },
      { kind: 'error', requestId: 7, error: ERRORS.BUSY.number, detail: 'why' },
    ]);
    connection.receive(encodeRequest(Op.ping, 9, 0, {}));
    connection.destroy();
    broker.last.respond(Op.ping, 9, {});
    broker.last.push(PushKind.goAway, { error: 0, detail: '' });
    expect([connection.sent.length, broker.last.closed]).toEqual([0, true]);
  });

  test('acknowledgements of one turn leave in one frame per connection', async () => {
    const { client, broker, clock } = await world();
    const one = client();
    const other = client();
    const [first, second] = broker.sessions as [Session, Session];
    for (const id of [2, 3, 4]) one.receive(send(id, 10));
    other.receive(send(2, 10));
    read(one);
    read(other);
    first.sendAck(2, 0, 100, 5);
    first.sendAckParts(3, [0, 101, 5, 22, -1, 0]);
    second.sendAck(2, 0, 102, 5);
    first.sendAck(99, 0, 1, 1);
    expect([one.sent.length, other.sent.length]).toEqual([0, 0]);
    clock.endTurn();
    expect([one.sent.length, other.sent.length]).toEqual([1, 1]);
    const [frame] = read(one);
    const acks: unknown[] = [];
    if (frame?.kind === 'sendAcks') forEachSendAck(frame.raw, (requestId, results) => acks.push([requestId, results]));
    expect(acks).toEqual([
      [2, [{ error: 0, baseOffset: 100, logTimeMs: 5 }]],
      [
        3,
        [
          { error: 0, baseOffset: 101, logTimeMs: 5 },
          { error: 22, baseOffset: -1, logTimeMs: 0 },
        ],
      ],
    ]);
    first.sendAck(4, 0, 103, 6);
    clock.endTurn();
    expect(one.sent.length).toBe(1);
    clock.endTurn();
    expect(one.sent.length).toBe(1);
  });

  test('unknown operations are answered, malformed frames end their connection only', async () => {
    const { client, broker } = await world();
    const one = client();
    const other = client();
    one.sent.length = 0;
    one.receive(encodeFrame([9_999, 5, 0, null]));
    expect(read(one)).toMatchObject([{ kind: 'error', requestId: 5, error: ERRORS.UNKNOWN_OPERATION.number }]);
    one.receive(Uint8Array.of(9));
    one.receive(encodeRequest(Op.ping, 6, 0, {}));
    expect([one.closing, broker.requests.length]).toEqual([true, 0]);
    other.receive(encodeRequest(Op.ping, 6, 0, {}));
    expect([other.closing, broker.requests.length]).toEqual([false, 1]);
  });

  test.each<[string, Uint8Array]>([
    ['a second hello', encodeRequest(Op.hello, 5, 0, HELLO)],
    ['an id that is still unanswered', encodeRequest(Op.ping, 4, 0, {})],
  ])('%s ends the connection', async (_, frame) => {
    const { client } = await world();
    const connection = client();
    connection.receive(encodeRequest(Op.ping, 4, 0, {}));
    connection.receive(frame);
    expect(connection.closing).toBe(true);
  });

  test('any bytes leave the gateway alive', async () => {
    const { client, broker } = await world();
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 60 }), { maxLength: 4 }), (frames) => {
        const connection = client();
        for (const frame of frames) connection.receive(frame);
        connection.destroy();
      }),
    );
    const before = broker.requests.length;
    client().receive(encodeRequest(Op.ping, 4, 0, {}));
    expect(broker.requests.length).toBe(before + 1);
  });
});

describe('native gateway: flow control', () => {
  test('credit: above the send window nothing is read until enough is answered', async () => {
    const { client, broker, clock } = await world({ sendWindowBytes: 100 });
    const connection = client();
    connection.receive(send(2, 60));
    expect(connection.paused).toBe(false);
    connection.receive(send(3, 60));
    connection.receive(send(4, 10));
    expect(connection.paused).toBe(true);
    broker.last.sendAck(2, 0, 0, 0);
    expect(connection.paused).toBe(true);
    broker.last.refuse(3, 'BUSY');
    expect(connection.paused).toBe(false);
    clock.endTurn();
    connection.receive(send(5, 1_000));
    expect(connection.paused).toBe(true);
    broker.last.sendAck(5, 0, 0, 0);
    expect(connection.paused).toBe(false);
  });

  test('one-way sends hold no credit after the call and get no answer', async () => {
    const { client, broker, gateway } = await world({ sendWindowBytes: 100, maxConnectionRequests: 1 });
    const connection = client();
    read(connection);
    for (const id of [2, 3, 4]) connection.receive(send(id, 150, true));
    expect(broker.requests.length).toBe(3);
    broker.last.refuse(2, 'BUSY');
    expect([connection.paused, connection.sent.length, gateway.counts().pendingRequests]).toEqual([false, 0, 0]);
  });

  test('requests beyond the bound are refused, the connection lives on', async () => {
    const { client, broker } = await world({ maxConnectionRequests: 2 });
    const connection = client();
    read(connection);
    for (const id of [2, 3, 4]) connection.receive(encodeRequest(Op.ping, id, 0, {}));
    expect(read(connection)).toMatchObject([{ kind: 'error', requestId: 4, error: ERRORS.TOO_MANY.number }]);
    broker.last.respond(Op.ping, 2, {});
    connection.receive(encodeRequest(Op.ping, 4, 0, {}));
    expect(broker.requests.map((request) => request.requestId)).toEqual([2, 3, 4]);
  });

  test('a slow reader is congested, drained when it has read, destroyed when far beyond', async () => {
    const { client, broker } = await world({ maxConnectionBufferBytes: 1_000 });
    const connection = client();
    const session = broker.last;
    const answer = (id: number, bytes: number): void => {
      connection.receive(encodeRequest(Op.messageGet, id, 0, { id: 'x', topic: '', queueId: 0, offset: 0 }));
      const body = { topic: 't', queueId: 0, baseOffset: 0, logTimeMs: 0, position: 0, messageIndex: 0 };
      session.respond(Op.messageGet, id, body, new Uint8Array(bytes));
    };
    connection.reading = false;
    answer(2, 500);
    expect(session.congested).toBe(false);
    answer(3, 500);
    expect(session.congested).toBe(true);
    answer(4, 1);
    connection.take();
    expect([session.congested, broker.drainedIds]).toEqual([false, [session.id]]);
    answer(5, 2_500);
    expect([connection.closed, session.congested]).toEqual([false, true]);
    answer(6, 1);
    expect([connection.closed, broker.closedIds]).toEqual([true, [session.id]]);
  });

  test('a silent connection ends, one that is held back does not', async () => {
    const { client, broker, clock } = await world({ idleTimeoutMs: 1_000, sendWindowBytes: 10 });
    const silent = client();
    const alive = client();
    const held = client();
    held.receive(send(2, 100));
    for (let i = 0; i < 4; i++) {
      clock.advance(400);
      alive.receive(encodeRequest(Op.ping, 10 + i, 0, {}));
    }
    expect([silent.closed, alive.closed, held.closed]).toEqual([true, false, false]);
    expect(broker.closedIds.length).toBe(1);
  });
});

describe('native gateway: end', () => {
  test('drain tells the clients, refuses what is new, waits for what is pending', async () => {
    const { client, broker, clock, gateway, net } = await world();
    const connection = client();
    connection.receive(send(2, 10));
    read(connection);
    let drained = false;
    const draining = gateway.drain(5_000).then(() => {
      drained = true;
    });
    connection.receive(encodeRequest(Op.ping, 3, 0, {}));
    expect(read(connection)).toMatchObject([
      { kind: 'push', push: { kind: PushKind.goAway, body: { error: 0 } } },
      { kind: 'error', requestId: 3, error: ERRORS.NOT_READY.number },
    ]);
    const late = client();
    expect(read(late).at(-1)).toMatchObject(goAway('NOT_READY'));
    await settle();
    expect(drained).toBe(false);
    broker.last.sendAck(2, 0, 0, 0);
    clock.endTurn();
    await settle();
    expect([connection.sent.length, connection.closing, drained]).toEqual([1, true, false]);
    connection.destroy();
    late.destroy();
    await draining;
    await gateway.close();
    expect([connection.closed, net.listening, broker.closedIds.length]).toEqual([true, false, 1]);
  });

  test('drain says what was acknowledged in the same turn before it closes', async () => {
    const { client, broker, gateway } = await world();
    const connection = client();
    connection.receive(send(2, 10));
    read(connection);
    broker.last.sendAck(2, 0, 7, 1);
    const draining = gateway.drain(5_000);
    await settle();
    expect(connection.closing).toBe(true);
    expect(read(connection).map(({ kind }) => kind)).toEqual(['push', 'sendAcks']);
    connection.destroy();
    await draining;
    await gateway.close();
  });

  test('drain does not wait for held pulls', async () => {
    const { client, broker, gateway } = await world();
    const connection = client();
    read(connection);
    const pull = { topic: 't', queueId: 0, offset: 0, maxBytes: 1, maxMessages: 1, waitMs: 60_000, group: '', member: '', epoch: 0 };
    connection.receive(encodeRequest(Op.pull, 2, 0, { ...pull, tagHashes: [] }));
    const draining = gateway.drain(5_000);
    expect(read(connection).at(-1)).toMatchObject({ kind: 'error', requestId: 2, error: ERRORS.NOT_READY.number });
    broker.last.respond(Op.pull, 2, { minOffset: 0, maxOffset: 0, nextOffset: 0, batches: [] });
    await settle();
    expect([connection.sent.length, connection.closing]).toEqual([0, true]);
    connection.destroy();
    await draining;
  });

  test('drain ends after its time when answers or closes do not come', async () => {
    const { client, clock, gateway } = await world();
    const connection = client();
    connection.receive(send(2, 10));
    const draining = gateway.drain(5_000);
    clock.advance(5_000);
    await settle();
    expect([connection.closing, connection.closed]).toEqual([true, false]);
    clock.advance(1_000);
    await draining;
    expect(gateway.counts().pendingRequests).toBe(1);
    await gateway.close();
    expect(connection.closed).toBe(true);
  });
});

test('over real sockets: hello, a send, its acknowledgement, close', async () => {
  const broker = new Broker();
  const net = new NodeNet();
  const gateway = await NativeGateway.listen({ clock: new NodeClock(), net, handler: broker, host: '127.0.0.1', port: 0 });
  broker.request = (session, request) => session.sendAck(request.requestId, 0, request.raw.length, 1);
  const acked = Promise.withResolvers<number>();
  const closed = Promise.withResolvers<void>();
  net.dialFrames(`ws://127.0.0.1:${gateway.port}`, 1 << 24, {
    onOpen: (connection) => connection.send(encodeRequest(Op.hello, 1, 0, HELLO)),
    onFrame: (connection, bytes) => {
      const frame = decodeBrokerFrame(bytes, () => Op.hello);
      if (frame.kind === 'response') connection.send(send(2, 300_000));
      else if (frame.kind === 'sendAcks') forEachSendAck(frame.raw, (_, results) => acked.resolve(results[0]?.baseOffset ?? -1));
    },
    onClose: () => closed.resolve(),
  });
  expect(await acked.promise).toBe(300_000);
  await gateway.close();
  await closed.promise;
  expect(broker.closedIds.length).toBe(1);
});
