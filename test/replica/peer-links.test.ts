import { describe, expect, test } from 'vitest';
import type { GroupRun } from '../../src/log/types.ts';
import type { AppendRequest, Message } from '../../src/raft/types.ts';
import type { PeerIdentity } from '../../src/replica/formation.ts';
import { PeerLinks } from '../../src/replica/peer-links.ts';
import { seededRandom } from '../log/support.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { StreamNet } from './stream-net.ts';

interface Side {
  readonly links: PeerLinks;
  readonly met: PeerIdentity[];
  readonly messages: Message[];
  readonly appends: number[];
  readonly lost: { peer: number; reset: boolean }[];
  readonly lostPeers: number[];
}

function side(
  clock: ManualClock,
  net: StreamNet,
  replicaId: number,
  options: { secret?: string; accepts?: boolean; trusts?: boolean; hears?: boolean } = {},
): Side {
  const met: PeerIdentity[] = [];
  const messages: Message[] = [];
  const appends: number[] = [];
  const lost: { peer: number; reset: boolean }[] = [];
  const lostPeers: number[] = [];
  const links = new PeerLinks({
    clusterId: 'test',
    brokerName: 'a',
    secret: options.secret ?? '',
    host: 'memory',
    port: 100 + replicaId,
    peers: [1, 2].filter((id) => id !== replicaId).map((id) => ({ replicaId: id, host: 'memory', port: 100 + id })),
    clock,
    random: seededRandom(replicaId),
    net,
    identity: () => ({ replicaId, incarnation: `i${replicaId}`, formedWith: null }),
    met: (peer) => {
      met.push(peer);
      return options.accepts ?? true;
    },
    trusts: () => options.trusts ?? true,
    hears: () => options.hears ?? false,
    lost: (peer) => lostPeers.push(peer),
    onEvent: () => undefined,
  });
  links.handlers = {
    onMessage: (message) => messages.push(message),
    onAppend: (_message, bytes) => {
      appends.push(bytes.length);
      return true;
    },
    onClock: () => undefined,
    onLost: (peer, reset) => lost.push({ peer, reset }),
  };
  return { links, met, messages, appends, lost, lostPeers };
}

const heartbeat = (from: number, to: number): Message => ({ type: 'heartbeatRequest', from, to, term: 3, commitIndex: 7, readContext: 0 });
const append: AppendRequest = {
  type: 'appendRequest',
  from: 2,
  to: 1,
  term: 3,
  prevIndex: 0,
  prevTerm: 0,
  firstIndex: 1,
  lastIndex: 1,
  commitIndex: 0,
  groups: [],
};

async function pair(options: { trusts?: boolean; hears?: boolean } = {}) {
  const clock = new ManualClock();
  const net = new StreamNet(clock);
  const one = side(clock, net, 1, options);
  const two = side(clock, net, 2);
  await one.links.start();
  await two.links.start();
  await clock.run(100);
  return { clock, net, one, two };
}

function run(sizeBytes: number): { run: GroupRun; released(): number } {
  let released = 0;
  const hold = {
    release: () => {
      released++;
    },
  };
  return { run: { firstIndex: 1, lastIndex: 1, bytes: new Uint8Array(sizeBytes), hold }, released: () => released };
}

describe('links between replicas', () => {
  test('each side dials what it wants to hear; messages and groups go both ways, holds are given back once', async () => {
    const { clock, one, two } = await pair();
    // Once for each direction.
    expect(one.met.map(({ replicaId }) => replicaId)).toEqual([2, 2]);
    expect(two.met.map(({ replicaId }) => replicaId)).toEqual([1, 1]);
    one.links.send(heartbeat(1, 2));
    const group = run(4096);
    two.links.sendAppend(append, [group.run]);
    await clock.run(20);
    expect(two.messages).toEqual([heartbeat(1, 2)]);
    expect(one.appends).toEqual([4096]);
    expect(group.released()).toBe(1);
  });

  test('a peer with another secret is never met, and is tried again', async () => {
    const clock = new ManualClock();
    const net = new StreamNet(clock);
    const one = side(clock, net, 1);
    const two = side(clock, net, 2, { secret: 'other' });
    await one.links.start();
    await two.links.start();
    await clock.run(2000);
    expect([...one.met, ...two.met]).toEqual([]);
    expect(net.connections.length).toBeGreaterThan(2);
    expect(one.links.connected(2)).toBe(false);
  });

  test('holds are free when a link ends with bytes on their way', async () => {
    const { clock, net, one, two } = await pair();
    net.silence();
    const group = run(4096);
    two.links.sendAppend(append, [group.run]);
    await clock.run(10);
    expect(group.released()).toBe(0);
    two.links.destroySlowest();
    expect(group.released()).toBe(1);
    expect(one.appends).toEqual([]);
  });

  test('a full hot tail ends the link that holds it, and none that holds nothing', async () => {
    const { two } = await pair();
    two.links.destroySlowest();
    expect(two.links.connected(1)).toBe(true);
  });

  test('a link that is silent is dialled anew; what was lost with the old one is told before anything goes over the new one', async () => {
    const { clock, net, one, two } = await pair();
    net.silence();
    await clock.run(7000);
    // The other side had the old links in place, dead as they were, or had dropped them as well: told once for each direction.
    expect(two.lost).toEqual(Array(2).fill({ peer: 1, reset: false }));
    expect(one.lost).toEqual(Array(2).fill({ peer: 2, reset: false }));
    expect(one.links.connected(2) && two.links.connected(1)).toBe(true);
  });

  test('a new link in the place of one that looks alive counts as its loss', async () => {
    const { clock, net, one, two } = await pair();
    // Replica 2 is started again; its old connection was cut off without a word.
    net.silence();
    const again = side(clock, net, 2);
    net.listeners.delete(102);
    await again.links.start();
    await clock.run(200);
    expect(one.lost).toEqual([{ peer: 2, reset: false }]);
    expect(one.lostPeers).toEqual([]);
    expect(two.lost).toEqual([]);
    one.links.send(heartbeat(1, 2));
    await clock.run(10);
    expect(again.messages.length).toBe(1);
  });

  test('a peer that dials is dialled at once, however long the pause was that its absence had earned', async () => {
    const clock = new ManualClock();
    const net = new StreamNet(clock);
    const one = side(clock, net, 1);
    await one.links.start();
    // Long enough for the longest pause between two dials.
    await clock.run(10_000);
    const two = side(clock, net, 2);
    await two.links.start();
    await clock.run(60);
    expect(one.links.connected(2) && two.links.connected(1)).toBe(true);
  });

  test('the end of a link is told to the formation: an emptied peer must be heard again', async () => {
    const { clock, one, two } = await pair();
    await two.links.stop();
    await clock.run(50);
    expect(one.lostPeers).toEqual([2, 2]);
    expect(one.lost).toEqual(Array(2).fill({ peer: 2, reset: true }));
  });

  test('stopping ends connections in the middle of their handshake too', async () => {
    const clock = new ManualClock();
    const net = new StreamNet(clock);
    net.listeners.set(101, () => ({ onData: () => undefined, onClose: () => undefined }));
    const two = side(clock, net, 2);
    await two.links.start();
    await clock.run(50);
    expect(net.openCount).toBe(2);
    await two.links.stop();
    await clock.run(50);
    expect(net.openCount).toBe(0);
  });

  test('stopping while the port is being opened leaves no listener and dials nobody', async () => {
    const clock = new ManualClock();
    const net = new StreamNet(clock);
    net.listenMs = 10;
    const two = side(clock, net, 2);
    const starting = two.links.start();
    await two.links.stop();
    await clock.run(50);
    await starting;
    expect(net.listeners.size).toBe(0);
    expect(net.connections).toEqual([]);
  });

  test('I5 of a peer that is not trusted orders are heard and answered, its own answers never count', async () => {
    const answer: Message = { type: 'voteResponse', from: 2, to: 1, term: 3, granted: true };
    const { clock, one, two } = await pair({ trusts: false, hears: true });
    two.links.send(heartbeat(2, 1));
    two.links.send(answer);
    one.links.send({ type: 'heartbeatResponse', from: 1, to: 2, term: 3, readContext: 0 });
    one.links.send(heartbeat(1, 2));
    await clock.run(10);
    expect(one.messages.map(({ type }) => type)).toEqual(['heartbeatRequest']);
    expect(two.messages.map(({ type }) => type)).toEqual(['heartbeatResponse']);
  });

  test('I5 a peer that is neither trusted nor heard says and hears nothing of Raft', async () => {
    const { clock, one, two } = await pair({ trusts: false, hears: false });
    two.links.send(heartbeat(2, 1));
    one.links.send({ type: 'heartbeatResponse', from: 1, to: 2, term: 3, readContext: 0 });
    await clock.run(10);
    expect(one.messages).toEqual([]);
    expect(two.messages).toEqual([]);
  });
});
