import { setTimeout as sleep } from 'node:timers/promises';
import type { Direction, NetHost } from '../../support/net-hosts.ts';
import { MEMBERS } from '../cluster/chaos-cluster.ts';
import { Relay } from '../relay/relay.ts';
import { type ActiveFault, type FaultStage, first, type StartFault } from './fault.ts';

/** A fault without any effect yet stays so much longer. */
const EFFECT_TIMEOUT_MS = 15_000;
const POLL_MS = 100;
const ANSWER_TIMEOUT_MS = 30_000;

const both = (left: NetHost, right: NetHost): Direction[] => [
  { from: left, to: right },
  { from: right, to: left },
];

async function untilTrue(condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + EFFECT_TIMEOUT_MS;
  while (!(await condition()) && performance.now() < deadlineMs) await sleep(POLL_MS);
}

async function cut(
  stage: FaultStage,
  targets: readonly NetHost[],
  directions: readonly Direction[],
  lossPercent = 100,
): Promise<ActiveFault> {
  const made = await stage.cluster.hosts.cut(directions, lossPercent);
  return {
    targets: targets.map(({ name }) => name),
    end: async () => {
      // Whoever is down says nothing that could be dropped.
      await untilTrue(async () => (await made.droppedPackets()) > 0);
      const dropped = await made.heal();
      const part = lossPercent < 100 ? ` (${lossPercent} %)` : '';
      return { fired: dropped > 0, text: `${dropped} packets dropped${part}` };
    },
  };
}

const hostsOf = ({ order }: FaultStage): [NetHost, NetHost, NetHost] => order.map(({ host }) => host) as [NetHost, NetHost, NetHost];

/** One apart from two. One of the clients may be on the side of the one. */
const halves: StartFault = (stage) => {
  const [alone, ...others] = hostsOf(stage);
  const client = stage.prng.chance(0.5) ? stage.cluster.clients[0] : undefined;
  const directions = others.flatMap((other) => [...both(alone, other), ...(client === undefined ? [] : both(client, other))]);
  return cut(stage, [alone, ...(client === undefined ? [] : [client])], directions);
};

const isolate: StartFault = (stage) => {
  const [alone, ...others] = hostsOf(stage);
  const directions = [...others, ...stage.cluster.clients].flatMap((other) => both(alone, other));
  return cut(stage, [alone], directions);
};

/** The first two don't see each other; the third sees both. */
const bridge: StartFault = (stage) => {
  const [left, right] = hostsOf(stage);
  return cut(stage, [left, right], both(left, right));
};

/** Each is heard by the next one only. */
const ring: StartFault = (stage) => {
  const [a, b, c] = hostsOf(stage);
  const directions = [
    { from: b, to: a },
    { from: c, to: b },
    { from: a, to: c },
  ];
  return cut(stage, [a, b, c], directions);
};

const oneWay: StartFault = (stage) => {
  const [one, ...others] = hostsOf(stage);
  const deaf = stage.prng.chance(0.5);
  const directions = others.map((other) => (deaf ? { from: other, to: one } : { from: one, to: other }));
  return cut(stage, [one], directions);
};

const loss: StartFault = (stage) => {
  const [a, b, c] = hostsOf(stage);
  return cut(stage, [a, b, c], [...both(a, b), ...both(a, c), ...both(b, c)], stage.prng.between(5, 30));
};

const delay: StartFault = async (stage) => {
  const { host } = first(stage.order);
  const { prng, cluster } = stage;
  const plan = { delayMs: prng.between(1, 60), jitterMs: prng.between(10, 120), seed: prng.u32() };
  if (cluster.relayProgram === null) throw new Error('no relay');
  const relay = await Relay.start(cluster.relayProgram, cluster.hosts, host, plan);
  return {
    targets: [host.name],
    end: async () => {
      await untilTrue(() => relay.counts.reordered > 0);
      const { packets, reordered } = await relay.end();
      const text = `${reordered} of ${packets} packets reordered, ${plan.delayMs}–${plan.delayMs + plan.jitterMs} ms late`;
      return { fired: reordered > 0, text };
    },
  };
};

/** As a pod that was moved: connections to the old address die in silence. */
const newAddress: StartFault = async ({ cluster, order, prng }) => {
  const replica = first(order);
  const killed = prng.chance(0.5);
  const before = replica.host.address;
  if (killed) await replica.end('SIGKILL');
  await cluster.hosts.changeAddress(replica.host);
  if (killed) replica.start(MEMBERS);
  return {
    targets: [replica.name],
    end: async () => {
      const answered = await cluster.answers(replica, ANSWER_TIMEOUT_MS);
      const how = killed ? 'killed before' : 'as it ran';
      return { fired: answered && before !== replica.host.address, text: `${replica.name} ${before} → ${replica.host.address}, ${how}` };
    },
  };
};

export const NETWORK_FAULTS: Readonly<Record<string, StartFault>> = {
  halves,
  isolate,
  bridge,
  ring,
  'one-way': oneWay,
  loss,
  delay,
  'new-address': newAddress,
};
