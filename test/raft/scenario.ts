import type { Effects, GroupMeta, Membership, Message, ReplicaId } from '../../src/raft/types.ts';
import { configOf, Replica, type SnapshotPayload } from './harness.ts';

interface Flying {
  readonly message: Message;
  readonly payload: SnapshotPayload | null;
}

const MAX_SETTLE_ROUNDS = 200;
/** Every draw is 0.5: all timeouts are 1.5 times electionTimeoutMs (1,000). */
const ELECTION_DUE_MS = 1500;
/** Behind the last of five in the order of ids (0.45) with the jitter. */
const RESET_DUE_MS = 500;

/**
 * A cluster that moves only on command, and writes down what it does. Used by the transcripts (as text) and by tests of
 * single claims (as calls).
 */
export class Scenario {
  readonly replicas = new Map<ReplicaId, Replica>();
  readonly lines: string[] = [];
  flying: Flying[] = [];
  nowMs = 0;
  readonly #cut = new Set<string>();
  #down = new Set<ReplicaId>();

  /** `cluster 3 learner=4 maxInflightMessages=2`: any number of the config may be named. */
  cluster(size: number, options: Record<string, number> = {}): void {
    const { learner, stranger, ...overrides } = options;
    const voters = Array.from({ length: size }, (_, at) => at + 1);
    const membership = { voters, learners: learner === undefined ? [] : [learner], outgoing: null };
    const nobody = { voters: [], learners: [], outgoing: null };
    // Strangers: replicas that run and that nobody has added, from `stranger` on to 5.
    const strangers = stranger === undefined ? [] : Array.from({ length: 6 - stranger }, (_, at) => stranger + at);
    for (const id of [...voters, ...membership.learners, ...strangers]) {
      const known = strangers.includes(id) ? nobody : membership;
      const replica = new Replica(configOf(id, { membership: known, random: () => 0.5, ...overrides }), (message, payload) => {
        const lost = this.#isCut(message.from, message.to);
        this.lines.push(`${message.from} -> ${message.to} ${describeMessage(message)}${lost ? ' (lost)' : ''}`);
        if (!lost) this.flying.push({ message, payload });
      });
      replica.onEffects = (effects) => this.lines.push(...describeEffects(id, effects));
      this.replicas.set(id, replica);
      replica.start(this.nowMs);
    }
  }

  at(id: ReplicaId): Replica {
    const replica = this.replicas.get(id);
    if (replica === undefined) throw new Error(`no replica ${id}`);
    return replica;
  }

  #isCut(from: ReplicaId, to: ReplicaId): boolean {
    return this.#cut.has(`${from}-${to}`) || this.#down.has(to);
  }

  /** Time passes; `ids` (all when empty) notice. */
  wait(ms: number, ...ids: ReplicaId[]): void {
    this.nowMs += ms;
    for (const [id, replica] of this.replicas) if (!this.#down.has(id) && (ids.length === 0 || ids.includes(id))) replica.tick(this.nowMs);
  }

  cut(one: ReplicaId, ...others: ReplicaId[]): void {
    for (const other of others.length > 0 ? others : this.replicas.keys()) {
      if (other === one) continue;
      this.#cut.add(`${one}-${other}`);
      this.#cut.add(`${other}-${one}`);
    }
    this.flying = this.flying.filter(({ message }) => !this.#isCut(message.from, message.to));
  }

  heal(): void {
    this.#cut.clear();
  }

  crash(id: ReplicaId): void {
    this.at(id).crash();
    this.#down.add(id);
    this.flying = this.flying.filter(({ message }) => message.to !== id);
  }

  start(id: ReplicaId): void {
    this.#down.delete(id);
    this.at(id).start(this.nowMs);
  }

  /** Messages that are in flight now (optionally of one direction, at most `count`) arrive; what they cause stays in flight. */
  deliver(from?: ReplicaId, to?: ReplicaId, count = Number.POSITIVE_INFINITY): void {
    const chosen = this.flying.filter(
      ({ message }) => (from === undefined || message.from === from) && (to === undefined || message.to === to),
    );
    for (const flown of chosen.slice(0, count)) {
      this.flying.splice(this.flying.indexOf(flown), 1);
      this.at(flown.message.to).step(flown.message, flown.payload);
    }
  }

  drop(from?: ReplicaId, to?: ReplicaId): void {
    this.flying = this.flying.filter(
      ({ message }) => !((from === undefined || message.from === from) && (to === undefined || message.to === to)),
    );
  }

  sync(...ids: ReplicaId[]): void {
    for (const [id, replica] of this.replicas) if (!this.#down.has(id) && (ids.length === 0 || ids.includes(id))) replica.syncAll();
  }

  /** Disks and net work until nothing moves. */
  settle(): void {
    for (let round = 0; round < MAX_SETTLE_ROUNDS; round += 1) {
      this.sync();
      if (this.flying.length === 0) return;
      this.deliver();
    }
    throw new Error('the scenario does not settle');
  }

  /** `id` campaigns: all see their leader's connection reset and `id` is first; without a leader, its timeout runs out first. */
  due(id: ReplicaId): void {
    const candidate = this.at(id);
    if (candidate.raft.leader === 0) {
      this.nowMs += ELECTION_DUE_MS;
      for (const [other, replica] of this.replicas) if (other !== id && !this.#down.has(other)) replica.tick(this.nowMs - 1);
    } else {
      this.nowMs += RESET_DUE_MS;
      for (const [other, replica] of this.replicas) if (!this.#down.has(other)) replica.raft.peerReset(replica.raft.leader);
    }
    candidate.tick(this.nowMs);
  }

  elect(id: ReplicaId): void {
    this.due(id);
    this.settle();
  }

  /** One line of a transcript. */
  command(line: string): void {
    const [verb, ...words] = line.split(/\s+/) as [string, ...string[]];
    const numbers = words.filter((word) => /^\d+$/.test(word)).map(Number);
    const [first = 0, second = 0, third] = numbers;
    const options = Object.fromEntries(
      words
        .filter((word) => word.includes('='))
        .map((word) => word.split('='))
        .map(([key, value]) => [key, Number(value)]),
    );
    const commands: Record<string, () => void> = {
      cluster: () => this.cluster(first, options),
      wait: () => this.wait(first, ...numbers.slice(1)),
      due: () => this.due(first),
      elect: () => this.elect(first),
      cut: () => this.cut(first, ...numbers.slice(1)),
      heal: () => this.heal(),
      crash: () => this.crash(first),
      start: () => this.start(first),
      deliver: () => this.deliver(...numbers),
      drop: () => this.drop(...numbers),
      sync: () => this.sync(...numbers),
      settle: () => this.settle(),
      status: () => this.status(),
      propose: () => this.#unless(this.at(first).propose(second || 1, third ?? 1), first),
      change: () => this.#unless(this.at(first).change(membershipOf(words)), first),
      read: () => this.at(first).raft.readIndex(second),
      transfer: () => this.#unless(this.at(first).raft.transferLeadership(second), first),
      reset: () => this.at(first).raft.peerReset(second),
      stepDown: () => this.at(first).raft.stepDown('disk'),
      floor: () => this.at(first).raft.setVoteFloor(second, third ?? 0),
      head: () => this.at(first).cutHead(second),
      install: () => this.#unless(this.at(first).finishInstall(), first),
      fail: () => this.at(first).failInstall(),
    };
    const command = commands[verb];
    if (command === undefined) throw new Error(`unknown command: ${line}`);
    command();
    const replica = this.replicas.get(first);
    if (replica?.alive === true) replica.carryOut();
  }

  #unless(done: boolean, id: ReplicaId): void {
    if (!done) this.lines.push(`${id} refuses`);
  }

  status(): void {
    for (const [id, replica] of this.replicas) {
      if (this.#down.has(id)) {
        this.lines.push(`${id} down`);
        continue;
      }
      const { raft, log } = replica;
      const runs = replica.memory.groups.map((group) => `${group.firstIndex}-${group.lastIndex}@${group.term}`).join(' ');
      this.lines.push(
        `${id} ${raft.role} term ${raft.term} leader ${raft.leader} commit ${raft.commitIndex} stored ${raft.storedIndex} log ${log.startIndex}|${runs}`,
      );
      if (raft.membershipIndex > 0) this.lines.push(`  ${describeMembership(raft.membership)}`);
      for (const peer of raft.progress()) {
        this.lines.push(`  ${peer.id} ${peer.state} match ${peer.matchIndex} next ${peer.nextIndex} inflight ${peer.inflightMessages}`);
      }
    }
  }
}

/** `voters=1,2 learners=4 outgoing=1,3` */
function membershipOf(words: readonly string[]): Membership {
  const list = (name: string): number[] | null => {
    const word = words.find((one) => one.startsWith(`${name}=`));
    return word === undefined
      ? null
      : word
          .slice(name.length + 1)
          .split(',')
          .map(Number);
  };
  return { voters: list('voters') ?? [], learners: list('learners') ?? [], outgoing: list('outgoing') };
}

function describeMembership({ voters, learners, outgoing }: Membership): string {
  const more = `${learners.length > 0 ? ` learners ${learners.join(',')}` : ''}${outgoing === null ? '' : ` outgoing ${outgoing.join(',')}`}`;
  return `voters ${voters.join(',')}${more}`;
}

function describeGroups(groups: readonly GroupMeta[]): string {
  return groups
    .map(
      (group) =>
        `${group.firstIndex}-${group.lastIndex}@${group.term}${group.membership === undefined ? '' : ` (${describeMembership(group.membership)})`}`,
    )
    .join(' ');
}

function describeMessage(message: Message): string {
  const head = `${message.type} term ${message.term}`;
  switch (message.type) {
    case 'preVoteRequest':
    case 'voteRequest':
      return `${head} last ${message.lastIndex}@${message.lastTerm}${message.type === 'voteRequest' && message.transfer ? ' transfer' : ''}`;
    case 'preVoteResponse':
    case 'voteResponse':
      return `${head} ${message.granted ? 'granted' : 'refused'}`;
    case 'appendRequest':
      return `${head} prev ${message.prevIndex}@${message.prevTerm} commit ${message.commitIndex} [${describeGroups(message.groups)}]`;
    case 'appendResponse':
      return message.success
        ? `${head} stored ${message.lastIndex}`
        : `${head} rejects ${message.rejectedIndex} hint ${message.lastIndex}@${message.hintTerm}`;
    case 'heartbeatRequest':
      return `${head} commit ${message.commitIndex} read ${message.readContext}`;
    case 'heartbeatResponse':
      return `${head} read ${message.readContext}`;
    case 'snapshotRequest':
      return `${head} at ${message.index}@${message.lastTerm}`;
    case 'snapshotResponse':
      return `${head} at ${message.index} ${message.success ? 'done' : 'failed'}`;
    case 'timeoutNow':
      return head;
  }
}

function describeEffects(id: ReplicaId, effects: Effects): string[] {
  const lines: string[] = [];
  if (effects.roleChange !== null) {
    lines.push(`${id} is ${effects.roleChange.role} term ${effects.roleChange.term} leader ${effects.roleChange.leader}`);
  }
  if (effects.hardState !== null) lines.push(`${id} hard state term ${effects.hardState.term} vote ${effects.hardState.votedFor}`);
  for (const { truncateFrom, groups } of effects.store) {
    lines.push(`${id} store${truncateFrom === null ? '' : ` cut from ${truncateFrom},`} ${describeGroups(groups)}`);
  }
  if (effects.commitIndex !== null) lines.push(`${id} commit ${effects.commitIndex}`);
  for (const { context, index } of effects.reads) lines.push(`${id} read ${context} ${index === null ? 'refused' : `at ${index}`}`);
  if (effects.install !== null)
    lines.push(`${id} install ${effects.install.index}@${effects.install.lastTerm} from ${effects.install.from}`);
  return lines;
}
