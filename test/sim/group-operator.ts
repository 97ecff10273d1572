import { LedgerError } from '../../src/protocol/errors.ts';
import { MAX_REPLICAS } from '../../src/raft/quorum.ts';
import type { GroupMembership } from '../../src/replica/membership.ts';
import { type BrokerGroup, CLIENT_PORT, type SimReplica } from './broker-group.ts';
import { incarnationOf } from './group-referee.ts';
import type { Prng } from './prng.ts';
import { EventKind, type SimScheduler } from './scheduler.ts';

/** Voters of a group at most: 1 → 3 → 5 → 3. */
const MOST_VOTERS = 5;
/** A wish that was not answered for so long is asked again, of whoever leads then. */
const ASK_AGAIN_US = 5_000_000;
/** Mean time for which the process of a removed replica goes on. */
const RETIRE_MEAN_MS = 4_000;
const REJOINS_WITH_DISK = 0.2;

interface Step {
  readonly kind: 'add' | 'remove';
  readonly replica: SimReplica;
  /** Life of the leader's process that was asked, and when. */
  asked: { readonly leader: SimReplica; readonly life: number; readonly atUs: number } | null;
}

/** An operator of one broker group: adds, removes and replaces replicas, each step asked for until it is done. */
export class GroupOperator {
  readonly #group: BrokerGroup;
  readonly #prng: Prng;
  readonly #scheduler: SimScheduler;
  #steps: Step[] = [];
  /** What it still wants after the present step; a machine is provided when its turn comes. */
  #plan: ('add' | 'remove')[] = [];
  /** Removals that are done, and whose process still goes on. */
  readonly #removed = new Map<SimReplica, Step>();
  done = 0;
  /** Something was changed in this run. */
  #acted = false;

  constructor(group: BrokerGroup, prng: Prng, scheduler: SimScheduler) {
    this.#group = group;
    this.#prng = prng;
    this.#scheduler = scheduler;
  }

  /** A change begins, when the last one has ended. */
  reshape(): void {
    const leader = this.#group.leader;
    if (leader === undefined || this.unsettled() !== null) return;
    const voters = this.#group.members.length;
    const plans: ('add' | 'remove')[][] = [];
    if (voters + 2 <= MOST_VOTERS) plans.push(['add', 'add'], ['add', 'add']);
    if (voters > 2) plans.push(['remove', 'remove']);
    if (voters > 1) plans.push(['remove', 'add']);
    if (voters < MAX_REPLICAS - 1) plans.push(['add', 'remove']);
    this.#acted = true;
    this.#plan = [...this.#prng.pick(plans)];
    this.#next();
  }

  /** Only when the group can do without: all that it may have acknowledged is on a majority of what remains (I5). */
  empty(victim: SimReplica): void {
    const leader = this.#group.leader;
    const now = leader?.handle?.membership()?.now;
    if (now === undefined || leader === victim || victim.leaving || victim.retired || this.unsettled() !== null) return;
    const { probe } = this.#group.referee;
    const others = now.voters.filter((id) => id !== victim.id && probe.covers(id, victim.id));
    if (others.length * 2 <= now.voters.length || this.#group.rot.standing().length > 0) return;
    this.#scheduler.say(victim.process.name, 'its disk is lost');
    this.#acted = true;
    this.#group.empty(victim);
  }

  /** Again and again. */
  tick(): void {
    const [step] = this.#steps;
    if (step === undefined) {
      this.#next();
      return;
    }
    const { asked, replica, kind } = step;
    if (asked !== null && asked.leader.process.life === asked.life && this.#scheduler.nowUs - asked.atUs < ASK_AGAIN_US) return;
    const leader = this.#group.leader;
    if (leader?.handle == null) return;
    const asking = { leader, life: leader.process.life, atUs: this.#scheduler.nowUs };
    step.asked = asking;
    const address = { replicaId: replica.id, host: replica.process.name, port: CLIENT_PORT };
    const answer = kind === 'add' ? leader.handle.addReplica(address) : leader.handle.removeReplica(replica.id);
    answer.then(
      () => this.#ended(step),
      (error: unknown) => {
        if (!(error instanceof LedgerError)) this.#scheduler.fail(error);
        else if (step.asked === asking) step.asked = null;
      },
    );
  }

  /** No further change; the one that was begun goes on to its end. */
  stop(): void {
    this.#plan = [];
  }

  /** Of what was begun something is not done yet, in words. */
  unfinished(): string | null {
    return this.#acted ? this.unsettled() : null;
  }

  /** What is not as it should be, in words; null: the group is what the operator wants it to be. */
  unsettled(): string | null {
    const { brokerName, leader, members, referee } = this.#group;
    const [step] = this.#steps;
    if (step !== undefined) return `${brokerName}: to ${step.kind} replica ${step.replica.id} is not done`;
    if (this.#plan.length > 0) return `${brokerName}: the operator has not ended`;
    const known = leader?.handle?.membership() ?? null;
    if (known === null) return `${brokerName}: nobody leads`;
    const { now, index } = known;
    if (index > referee.committedIndex || now.outgoing !== null || now.learners.length > 0 || now.replacing.length > 0)
      return `${brokerName}: membership is changing: ${JSON.stringify(now)}`;
    if (
      now.voters.join() !==
      members
        .map(({ id }) => id)
        .sort((a, b) => a - b)
        .join()
    )
      return `${brokerName}: voters are ${now.voters.join()}, not ${members.map(({ id }) => id).join()}`;
    const strange = members.find((member) => !isNamed(now, member));
    return strange === undefined ? null : `${brokerName}: replica ${strange.id} is not who the log names`;
  }

  #next(): void {
    const kind = this.#plan.shift();
    if (kind === undefined) return;
    const { rot, members } = this.#group;
    // Nothing may be on the one disk alone that goes.
    if (kind === 'remove' && (members.length === 1 || rot.standing().length > 0)) return;
    if (kind === 'remove') this.#remove(this.#prng.pick(members));
    else this.#add();
  }

  #remove(replica: SimReplica): void {
    this.#scheduler.say(replica.process.name, 'is to be removed');
    replica.leaving = true;
    replica.joining = false;
    // It may have come back since an earlier removal, whose end of the process is still to come (simulation seed 634).
    this.#removed.delete(replica);
    this.#steps.push({ kind: 'remove', replica, asked: null });
  }

  /** Ids of those who left are given again, to an empty machine or, sometimes, to the one that has its old data. */
  #add(): void {
    const { replicas, members } = this.#group;
    const used = new Set(members.map(({ id }) => id));
    const ids = Array.from({ length: MAX_REPLICAS }, (_, at) => at + 1).filter((id) => !used.has(id));
    if (members.length > MOST_VOTERS) return;
    const fresh = ids.filter((id) => !replicas.some((replica) => replica.id === id));
    const id = fresh.length > 0 && this.#prng.chance(0.6) ? (fresh[0] as number) : this.#prng.pick(ids);
    const replica = this.#group.provide(id, this.#prng.chance(REJOINS_WITH_DISK));
    this.#scheduler.say(replica.process.name, `is to be added as replica ${id}`);
    replica.joining = true;
    this.#group.start(replica);
    this.#steps.push({ kind: 'add', replica, asked: null });
  }

  #ended(step: Step): void {
    if (this.#steps[0] !== step) return;
    this.#steps.shift();
    this.done++;
    const { kind, replica } = step;
    replica.joining = false;
    this.#scheduler.say(replica.process.name, kind === 'add' ? 'was added' : 'was removed');
    if (kind === 'add') return;
    this.#group.rot.forget(replica.id);
    this.#removed.set(replica, step);
    this.#scheduler.schedule(null, this.#prng.exponential(RETIRE_MEAN_MS) * 1000, EventKind.world, () => {
      if (replica.leaving && this.#removed.get(replica) === step) this.#group.retire(replica);
    });
  }
}

const isNamed = ({ members }: GroupMembership, { id, process }: SimReplica): boolean =>
  members.find(({ replicaId }) => replicaId === id)?.incarnation === incarnationOf(process.disk);
