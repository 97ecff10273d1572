import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { ConsumerOptions, LedgerClient, MessageQueue } from '../../src/index.ts';
import type { FromMember, ToMember } from './gated-member.ts';
import { dense, numbered, TestCluster, until } from './test-cluster.ts';

const SESSION_MS = 2_000;

let cluster: TestCluster;
let client: LedgerClient;
const children = new Set<ChildProcess>();

beforeAll(async () => {
  cluster = await TestCluster.start();
  client = cluster.client();
});
afterAll(async () => {
  for (const child of children) child.kill('SIGKILL');
  await cluster.stop();
});

type Start = Extract<FromMember, { kind: 'start' }>;

/** A member in its own process. What it starts goes to `onStart`, which may answer at once, later or never. */
class GatedMember {
  readonly child: ChildProcess;
  readonly starts: Start[] = [];
  readonly commits: string[] = [];
  member = '';
  closed = false;
  onStart: (start: Start) => void = ({ id }) => this.end(id);

  constructor(topic: string, options: Partial<ConsumerOptions>) {
    const setup = JSON.stringify({ endpoints: cluster.local.endpoints, topic, options: { sessionTimeoutMs: SESSION_MS, ...options } });
    this.child = spawn(process.execPath, [join(import.meta.dirname, 'gated-member.ts'), setup], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    children.add(this.child);
    this.child.once('exit', () => children.delete(this.child));
    this.child.on('message', (word: FromMember) => {
      if (word.kind === 'start') {
        this.starts.push(word);
        this.onStart(word);
      } else if (word.kind === 'committed') this.commits.push(word.code);
      else if (word.kind === 'joined') this.member = word.member;
      else this.closed = true;
    });
  }

  end(id: number, error: string | null = null): void {
    this.#say({ kind: 'end', id, error });
  }

  /** @returns what the broker said to a commit of this process under that epoch */
  async commit(queueId: number, offset: number, epoch: number): Promise<string> {
    const before = this.commits.length;
    this.#say({ kind: 'commit', queueId, offset, epoch });
    await until('the commit is answered', () => this.commits.length > before);
    return this.commits.at(-1) as string;
  }

  async close(): Promise<void> {
    this.#say({ kind: 'close' });
    await until('closed', () => this.closed);
  }

  async end9(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    this.child.kill('SIGKILL');
    await once(this.child, 'exit');
  }

  #say(word: ToMember): void {
    if (this.child.connected) this.child.send(word);
  }
}

interface Write {
  readonly queueId: number;
  readonly offset: number;
  readonly token: number;
  readonly by: GatedMember;
}

/** A store outside of the brokers that takes a write unless a higher token wrote to the queue before. */
class FencedStore {
  readonly taken: Write[] = [];
  readonly refused: Write[] = [];
  readonly #highest = new Map<number, number>();

  write(write: Write): string | null {
    const highest = this.#highest.get(write.queueId) ?? 0;
    if (write.token < highest) {
      this.refused.push(write);
      return `token ${write.token} is below ${highest}`;
    }
    this.#highest.set(write.queueId, write.token);
    this.taken.push(write);
    return null;
  }

  takenBy(by: GatedMember): Write[] {
    return this.taken.filter((write) => write.by === by);
  }
}

async function fill(topic: string, queues: readonly MessageQueue[], each: number): Promise<void> {
  const producer = client.producer();
  await Promise.all(queues.flatMap((queue) => numbered(each).map((body) => producer.send({ topic, body, queue }))));
  await producer.close();
}

const queuesOf = (starts: readonly { readonly queueId: number }[]): number[] => [...new Set(starts.map(({ queueId }) => queueId))].sort();

describe('F19 orderly consumption by owners that may be paused', () => {
  test('an owner frozen past its session cannot write with its fencing token nor commit; per queue the order holds', async () => {
    const topic = 'f19';
    const EACH = 150;
    const queues = await cluster.createTopic(topic, 4);
    const store = new FencedStore();
    const running = new Map<string, number>();
    let most = 0;
    const attach = (member: GatedMember, holds: (start: Start) => boolean = () => false): void => {
      member.onStart = (start) => {
        // One handler at a time for a queue: a second one before the first ended would be seen here.
        const key = `${member.member}/${start.queueId}`;
        expect(running.has(key)).toBe(false);
        running.set(key, start.id);
        most = Math.max(most, [...running.keys()].filter((other) => other.startsWith(`${member.member}/`)).length);
        if (!holds(start)) finish(member, start);
      };
    };
    const finish = (member: GatedMember, start: Start): void => {
      running.delete(`${member.member}/${start.queueId}`);
      member.end(start.id, store.write({ ...start, by: member }));
    };
    const members = [new GatedMember(topic, { ordered: true }), new GatedMember(topic, { ordered: true })] as const;
    const [frozen, other] = members;
    for (const member of members) attach(member, () => true);
    await until('both have joined', () => members.every(({ member }) => member !== ''));
    const admin = client.admin();
    await until('two queues each', async () => {
      const [description] = await admin.describeGroup(topic).catch(() => []);
      const owners = description?.queues.map(({ owner }) => owner) ?? [];
      return members.every(({ member }) => owners.filter((owner) => owner === member).length === 2);
    });
    await fill(topic, queues, EACH);
    await until('a handler on every queue', () => members.every(({ starts }) => queuesOf(starts).length === 2));
    expect(most).toBe(2);
    const mine = queuesOf(frozen.starts);
    const queueId = mine[0] as number;
    // From here on all writes are let through, but for one of the owner-to-be-frozen at message 20, and for the other one there at 40.
    let held: Start | null = null;
    let heldLater: Start | null = null;
    attach(frozen, (start) => {
      if (start.queueId !== queueId || start.offset !== 20) return false;
      held = start;
      return true;
    });
    attach(other, (start) => {
      if (start.queueId !== queueId || start.offset !== 40) return false;
      heldLater = start;
      return true;
    });
    for (const member of members) for (const start of member.starts) finish(member, start);
    await until('the owner is in the middle of a message', () => held !== null);
    frozen.child.kill('SIGSTOP');
    await until('the other one has its queues', () => heldLater !== null && queuesOf(store.takenBy(other)).length === 4, 30_000);
    const [late, current] = [held as unknown as Start, heldLater as unknown as Start];
    expect(current.token).toBeGreaterThan(late.token);

    // The old owner's write was on its way all the time. It comes now, and is refused; so is its commit, when it wakes.
    finish(frozen, late);
    expect(store.refused).toHaveLength(1);
    frozen.child.kill('SIGCONT');
    const refusal = await frozen.commit(queueId, EACH, late.token);
    expect(['UNKNOWN_MEMBER', 'NOT_OWNER']).toContain(refusal);
    expect(await client.pullConsumer().committed(topic, queues[queueId] as MessageQueue)).toBeLessThanOrEqual(current.offset);

    finish(other, current);
    await until('all is committed', async () => (await admin.lag(topic)) === 0, 30_000);
    // It gets its queues back, as an owner of its own: the old token stays worthless.
    await other.close();
    await until('the one that slept owns all', async () => {
      const [description] = await admin.describeGroup(topic);
      return description?.queues.every(({ owner }) => owner === frozen.member) === true;
    });
    expect(await frozen.commit(queueId, EACH, late.token)).toBe('FENCED');

    const owners = new Map<number, GatedMember>();
    for (const { queueId: id } of queues) {
      const writes = store.taken.filter((write) => write.queueId === id);
      let end = 0;
      for (const { offset, token, by } of writes) {
        // Never ahead, and back only to what was not committed when the owner changed.
        expect(offset).toBeLessThanOrEqual(end);
        end = Math.max(end, offset + 1);
        // No token has two owners.
        expect(owners.get(token * 4 + id) ?? by).toBe(by);
        owners.set(token * 4 + id, by);
      }
      expect(end).toBe(EACH);
    }
    await Promise.all(members.map((member) => member.end9()));
  }, 90_000);
});

describe('F37 a member that goes in the middle of its work', () => {
  for (const [how, signal, leaderGoes] of [
    ['killed, together with the leader', 'SIGKILL', true],
    ['frozen', 'SIGSTOP', false],
  ] as const) {
    test(`${how}: what it had not acknowledged comes again, nothing else does, and nothing is skipped`, async () => {
      const topic = `f37-${signal.toLowerCase()}`;
      const EACH = 60;
      const HELD = 10;
      const queues = await cluster.createTopic(topic, 4);
      const done = new Map<string, number>();
      const finish = (member: GatedMember, { id, queueId, offset }: Start): void => {
        done.set(`${queueId}/${offset}`, (done.get(`${queueId}/${offset}`) ?? 0) + 1);
        member.end(id);
      };
      const members = [new GatedMember(topic, { concurrency: 128 }), new GatedMember(topic, { concurrency: 128 })] as const;
      const [goes, stays] = members;
      const held: Start[] = [];
      goes.onStart = (start) => {
        // Of each of its queues it keeps the second half of the first thirty in its hands.
        if (start.offset >= 30 - HELD / 2 && start.offset < 30) held.push(start);
        else if (start.offset < 30) finish(goes, start);
      };
      stays.onStart = (start) => finish(stays, start);
      const admin = client.admin();
      await until('two queues each', async () => {
        const [description] = await admin.describeGroup(topic).catch(() => []);
        const owners = description?.queues.map(({ owner }) => owner) ?? [];
        return members.every(({ member }) => member !== '' && owners.filter((owner) => owner === member).length === 2);
      });
      await fill(topic, queues, EACH);
      await until('it has its hands full', () => held.length === HELD);
      const moving = queuesOf(held);
      const committed = (queueId: number) => client.pullConsumer().committed(topic, queues[queueId] as MessageQueue);
      await until('what was before is committed', async () => {
        const offsets = await Promise.all(moving.map(committed));
        return offsets.every((offset) => offset === 30 - HELD / 2);
      });
      const leader = (await cluster.local.leader()) as number;
      goes.child.kill(signal);
      if (leaderGoes) await cluster.local.kill(leader);
      await until('all is done elsewhere', () => done.size === 4 * EACH, 60_000);
      if (leaderGoes) await cluster.local.restart(leader);
      if (signal === 'SIGSTOP') {
        // It wakes, and says that it has done what others did: too late, and no harm.
        goes.child.kill('SIGCONT');
        for (const start of held) goes.end(start.id);
      }
      await until('all is committed', async () => (await admin.lag(topic)) === 0, 30_000);
      for (const { queueId, offset } of held)
        expect(stays.starts.some((one) => one.queueId === queueId && one.offset === offset)).toBe(true);
      for (const { queueId } of queues) {
        const again = stays.starts.filter((one) => one.queueId === queueId).map(({ offset }) => offset);
        const first = moving.includes(queueId) ? 30 - HELD / 2 : 0;
        // Nothing that was acknowledged comes again, nothing twice, and nothing is left out.
        expect(again.toSorted((a, b) => a - b)).toEqual(dense(EACH - first, first));
      }
      expect(done.size).toBe(4 * EACH);
      await Promise.all(members.map((member) => member.end9()));
    }, 120_000);
  }
});
