import { describe, expect, test } from 'vitest';
import { Connections } from '../../src/client/connections.ts';
import { ROUTE_WAIT_MS, Router } from '../../src/client/router.ts';
import type { BrokerRoute } from '../../src/protocol/requests.ts';
import { ScriptedGroup, SeededRandom } from '../support/scripted-broker.ts';

const SEED = 'ws://seed:1';

function makeRouter() {
  const { clock, net } = new ScriptedGroup();
  const io = { clock, random: new SeededRandom(), net };
  const backoff = { baseMs: 50, factor: 2, capMs: 1_000, jitter: true };
  const hello = { clientId: 'test', namespace: '', zone: '', agent: 'test' };
  const link = { hello, requestTimeoutMs: 3_000, reconnect: backoff, keepAliveMs: 5_000, maxFrameBytes: 1 << 20, maxPendingRequests: 16 };
  const connections: Connections = new Connections(io, link, { onReady: () => {}, onLost: () => {}, onPush: () => {} });
  const router = new Router(io, connections, { seeds: [SEED], requestTimeoutMs: 3_000, refreshMs: 30_000, backoff });
  let changes = 0;
  router.onChange(() => {
    changes += 1;
  });
  const said = (term: number, leader: number, replicas: Readonly<Record<number, string>>): BrokerRoute[] => {
    const listed = Object.entries(replicas).map(([replicaId, host]) => ({ replicaId: Number(replicaId), endpoint: `ws://${host}:1` }));
    router.merge({ brokers: [{ brokerName: 'g', term, leader, replicas: listed }], topics: [] });
    return [...router.brokers];
  };
  const hosts = (): string[] =>
    [...router.brokers].flatMap(({ replicas }) => replicas.map(({ replicaId, endpoint }) => `${replicaId}@${endpoint.slice(5, -2)}`));
  return { router, clock, said, hosts, changes: () => changes };
}

describe('the merged route of a group', () => {
  test('F04 FAULTS 20 within a term: a replica that was added or replaced gets known, whatever else the answer knows', () => {
    const { router, said, hosts } = makeRouter();
    said(5, 1, { 1: 'a', 2: 'b', 3: 'c' });
    said(5, 1, { 1: 'a', 2: 'b', 3: 'c', 4: 'd' });
    expect(hosts()).toEqual(['1@a', '2@b', '3@c', '4@d']);
    // Another replica at an address that one had before.
    said(5, 1, { 1: 'a', 2: 'b', 5: 'c' });
    expect(hosts()).toEqual(['1@a', '2@b', '5@c']);
    expect(router.replica('g', 5)?.endpoint).toBe('ws://c:1');
    expect(router.replica('g', 3)).toBeNull();
    // From a broker that has lost sight of the leader.
    said(5, 0, { 1: 'a', 2: 'b', 5: 'c', 6: 'e' });
    expect(hosts()).toEqual(['1@a', '2@b', '5@c', '6@e']);
    expect(router.leader('g')?.endpoint).toBe('ws://a:1');
  });

  test('FAULTS 20 a leader is not unseated within its term by a broker that does not see it, nor by one of an older term', () => {
    const { router, said, hosts, changes } = makeRouter();
    said(5, 1, { 1: 'a', 2: 'b', 3: 'c' });
    said(5, 0, { 2: 'b', 3: 'c' });
    expect(router.leader('g')?.endpoint).toBe('ws://a:1');
    expect(hosts()).toEqual(['1@a', '2@b', '3@c']);
    const before = changes();
    // The same in another order is no news.
    said(5, 0, { 3: 'c', 1: 'a', 2: 'b' });
    said(4, 2, { 2: 'x' });
    expect(changes()).toBe(before);
    said(6, 0, { 2: 'b', 3: 'c' });
    expect(router.leader('g')?.endpoint).toBe('ws://a:1');
    said(6, 3, { 2: 'b', 3: 'c' });
    expect(router.leader('g')?.endpoint).toBe('ws://c:1');
    expect(hosts()).toEqual(['2@b', '3@c']);
  });

  test('F04 a group that is wholly down keeps its addresses: it comes back there', () => {
    const { router, said, hosts } = makeRouter();
    said(5, 1, { 1: 'a', 2: 'b', 3: 'c' });
    said(5, 0, {});
    said(6, 0, {});
    expect(hosts()).toEqual(['1@a', '2@b', '3@c']);
    expect(router.leader('g')?.endpoint).toBe('ws://a:1');
  });

  /** Found by seed 1162: clients met nobody for a minute, while two of three replicas served. */
  test('FAULTS 11 a replica that is cut off from the others and campaigns in a higher term hides their leader from nobody', () => {
    const { router, said } = makeRouter();
    const replicas = { 1: 'a', 2: 'b', 3: 'c' };
    // Whoever reached it first hears of the leader from the others all the same, whatever comes in which order.
    said(4, 0, replicas);
    expect(router.leader('g')).toBeNull();
    said(3, 1, replicas);
    said(4, 0, replicas);
    said(5, 0, replicas);
    expect(router.leader('g')?.endpoint).toBe('ws://a:1');
    expect(router.term('g')).toBe(3);
    // It has come back and won: the leader of before is none any more.
    said(5, 3, replicas);
    said(3, 1, replicas);
    expect(router.leader('g')?.endpoint).toBe('ws://c:1');
  });

  test('F04 addresses are taken from a broker of a higher term that knows no leader: a group that is starting again elsewhere', () => {
    const { router, said, hosts } = makeRouter();
    said(5, 1, { 1: 'a', 2: 'b', 3: 'c' });
    said(6, 0, { 1: 'x', 2: 'y', 3: 'z' });
    expect(hosts()).toEqual(['1@x', '2@y', '3@z']);
    expect(router.leader('g')?.endpoint).toBe('ws://x:1');
    said(7, 2, { 1: 'x', 2: 'y', 3: 'z' });
    expect(router.leader('g')?.endpoint).toBe('ws://y:1');
  });

  test('FAULTS 20 who waits for another term is woken by it alone, and gives up in time', async () => {
    const { router, clock, said } = makeRouter();
    said(5, 1, { 1: 'a', 2: 'b' });
    let woken = 0;
    const wait = (): void => void router.otherTerm('g', 5, ROUTE_WAIT_MS).then(() => woken++);
    wait();
    await clock.run(ROUTE_WAIT_MS / 2);
    said(5, 1, { 1: 'a', 2: 'b', 3: 'c' });
    await clock.run(10);
    expect(woken).toBe(0);
    said(6, 2, { 1: 'a', 2: 'b' });
    await clock.run(1);
    expect(woken).toBe(1);
    void router.otherTerm('g', 6, ROUTE_WAIT_MS).then(() => woken++);
    await clock.run(ROUTE_WAIT_MS - 1);
    expect(woken).toBe(1);
    await clock.run(2);
    expect(woken).toBe(2);
  });
});
