import { describe, expect, test } from 'vitest';
import { MAX_PENDING_READS } from '../../src/raft/read-index.ts';
import type { Message } from '../../src/raft/types.ts';
import { BLOCK } from './harness.ts';
import { cluster, inFlight, led } from './led-scenario.ts';
import { Scenario } from './scenario.ts';

/** One test per claim. "Paper": Ongaro and Ousterhout (extended version), section 5. "Thesis": Ongaro, 3.10, 4.2, 6.2, 6.4, 9.6. */

describe('F35 paper 5.1 basics', () => {
  test('a replica starts as follower and stays one while it hears a leader', () => {
    const scenario = led();
    for (let at = 0; at < 40; at += 1) {
      scenario.wait(100);
      scenario.settle();
    }
    expect(scenario.at(1).raft.term).toBe(1);
    expect(scenario.at(2).raft.role).toBe('follower');
  });

  test('a higher term turns every role into a follower of that term, without a vote in it', () => {
    for (const role of ['follower', 'candidate', 'leader'] as const) {
      const scenario = role === 'leader' ? led() : cluster();
      if (role === 'candidate') {
        scenario.due(1);
        scenario.deliver();
        scenario.deliver();
      }
      const { raft } = scenario.at(1);
      expect(raft.role).toBe(role);
      scenario.at(1).step({ type: 'heartbeatRequest', from: 2, to: 1, term: 9, commitIndex: 0, readContext: 0 });
      expect([raft.role, raft.term, raft.leader, raft.votedFor]).toEqual(['follower', 9, 2, 0]);
    }
  });

  test('a request of an older term is refused, with the own term in the answer', () => {
    const scenario = led();
    scenario.at(1).step({ type: 'voteRequest', from: 3, to: 1, term: 0, lastIndex: 99, lastTerm: 0, transfer: false });
    expect(inFlight(scenario, 'voteResponse')).toMatchObject([{ to: 3, term: 1, granted: false }]);
  });

  test('messages under an id that cannot be, and to somebody else, are ignored', () => {
    const scenario = led();
    scenario.at(1).step({ type: 'heartbeatRequest', from: 8, to: 1, term: 9, commitIndex: 0, readContext: 0 });
    scenario.at(1).step({ type: 'heartbeatRequest', from: 2, to: 3, term: 9, commitIndex: 0, readContext: 0 });
    expect(scenario.at(1).raft.term).toBe(1);
  });
});

describe('F35 paper 5.2 leader election', () => {
  test('a candidate raises its term, votes for itself and asks all others', () => {
    const scenario = cluster(5);
    scenario.due(1);
    scenario.deliver();
    scenario.deliver();
    scenario.sync(1);
    expect(scenario.at(1).durableHardState).toEqual({ term: 1, votedFor: 1 });
    expect(inFlight(scenario, 'voteRequest').map(({ to }) => to)).toEqual([2, 3, 4, 5]);
  });

  test('one vote per term, first come first served, remembered over a restart', () => {
    const scenario = cluster();
    const ask = { type: 'voteRequest', term: 1, lastIndex: 0, lastTerm: 0, transfer: false, to: 3 } as const;
    scenario.at(3).step({ ...ask, from: 1 });
    scenario.sync(3);
    scenario.crash(3);
    scenario.start(3);
    scenario.at(3).step({ ...ask, from: 2 });
    scenario.at(3).step({ ...ask, from: 1 });
    scenario.sync(3);
    expect(inFlight(scenario, 'voteResponse').map(({ to, granted }) => [to, granted])).toEqual([
      [1, true],
      [2, false],
      [1, true],
    ]);
  });

  test('a majority of all voters is needed, not of those who answer', () => {
    const scenario = cluster(5);
    scenario.cut(1, 3, 4, 5);
    scenario.elect(1);
    expect(scenario.at(1).raft.role).toBe('preCandidate');
    scenario.heal();
    scenario.cut(1, 4, 5);
    scenario.wait(1500, 1);
    scenario.settle();
    expect(scenario.at(1).raft.role).toBe('leader');
  });

  test('a new leader says so at once', () => {
    const scenario = cluster();
    scenario.due(1);
    for (let round = 0; round < 3; round += 1) {
      scenario.deliver();
      scenario.sync();
    }
    scenario.deliver();
    expect(scenario.at(1).raft.role).toBe('leader');
    expect(new Set(inFlight(scenario, 'heartbeatRequest').map(({ to }) => to))).toEqual(new Set([2, 3]));
  });

  test('a candidate that hears the leader of its term follows it', () => {
    const scenario = cluster();
    scenario.due(1);
    scenario.deliver();
    scenario.deliver();
    expect(scenario.at(1).raft.role).toBe('candidate');
    scenario.at(1).step({ type: 'heartbeatRequest', from: 2, to: 1, term: 1, commitIndex: 0, readContext: 0 });
    expect([scenario.at(1).raft.role, scenario.at(1).raft.leader]).toEqual(['follower', 2]);
  });

  test('election timeouts are drawn anew from [T, 2T), so that a split vote is not repeated', () => {
    const draws = [0, 0.99, 0.25];
    const scenario = new Scenario();
    scenario.cluster(2, {});
    const timeouts: number[] = [];
    const replica = scenario.at(1);
    Object.assign(replica.config, { random: () => draws.shift() ?? 0.5 });
    scenario.crash(2);
    scenario.crash(1);
    scenario.start(1);
    let since = scenario.nowMs;
    for (let at = 0; at < 5000; at += 1) {
      scenario.wait(1, 1);
      if (scenario.lines.at(-1)?.includes('preVoteRequest') !== true) continue;
      timeouts.push(scenario.nowMs - since);
      since = scenario.nowMs;
      scenario.lines.length = 0;
    }
    expect(timeouts.slice(0, 3)).toEqual([1000, 1990, 1250]);
  });
});

describe('F35 paper 5.3 log replication', () => {
  test('committed when the leader has stored it on a majority; its own disk is one of them, and no precondition', () => {
    const scenario = led();
    scenario.at(1).propose();
    scenario.deliver(1);
    scenario.sync(2);
    scenario.deliver(2);
    expect(scenario.at(1).raft.commitIndex).toBe(1);
    scenario.sync(3);
    scenario.deliver(3);
    // Two followers of three: a majority without the leader's own disk.
    expect(scenario.at(1).raft.commitIndex).toBe(2);
    expect(scenario.at(1).raft.storedIndex).toBe(1);
  });

  test('the own disk and one follower are a majority, too', () => {
    const scenario = led();
    scenario.at(1).propose();
    scenario.sync(1);
    expect(scenario.at(1).raft.commitIndex).toBe(1);
    scenario.deliver(1, 2);
    scenario.sync(2);
    scenario.deliver(2);
    expect(scenario.at(1).raft.commitIndex).toBe(2);
  });

  test('followers learn the commit index at once, without waiting for the next entry', () => {
    const scenario = led();
    scenario.at(1).propose(3);
    scenario.settle();
    expect(scenario.at(2).raft.commitIndex).toBe(4);
    expect(scenario.at(3).raft.commitIndex).toBe(4);
  });

  test('a follower without the previous entry refuses; whatever conflicts is removed, whatever fits is kept', () => {
    const scenario = led();
    scenario.cut(1);
    scenario.at(1).propose(2);
    scenario.at(1).propose(2);
    scenario.sync(1);
    scenario.elect(2);
    scenario.heal();
    scenario.wait(100, 2);
    scenario.settle();
    expect(scenario.at(1).durable).toEqual(scenario.at(2).durable);
    expect(scenario.at(1).memory.groups.map(({ firstIndex, term }) => [firstIndex, term])).toEqual([
      [1, 1],
      [2, 2],
    ]);
  });

  test('an append that arrives twice or late removes nothing that is newer', () => {
    const scenario = led();
    scenario.at(1).propose();
    const early = scenario.flying.filter(({ message }) => message.to === 2).map(({ message }) => message);
    scenario.at(1).propose();
    scenario.settle();
    const before = scenario.at(2).log.lastIndex;
    for (const message of early) scenario.at(2).step(message);
    scenario.settle();
    expect(scenario.at(2).log.lastIndex).toBe(before);
  });

  test('back-up skips a whole term a round, not one entry', () => {
    const scenario = led();
    scenario.cut(1);
    for (let at = 0; at < 20; at += 1) scenario.at(1).propose(1, 1);
    scenario.sync(1);
    scenario.elect(2);
    for (let at = 0; at < 15; at += 1) scenario.at(2).propose(1, 1);
    scenario.settle();
    scenario.command('transfer 2 3');
    scenario.settle();
    scenario.heal();
    scenario.lines.length = 0;
    scenario.wait(100, 3);
    scenario.settle();
    expect(scenario.lines.filter((line) => line.includes('rejects'))).toHaveLength(1);
    expect(scenario.at(1).durable).toEqual(scenario.at(3).durable);
  });

  test('lost appends and lost acknowledgements are made good after a heartbeat', () => {
    for (const lost of ['request', 'response'] as const) {
      const scenario = led();
      scenario.at(1).propose();
      if (lost === 'response') {
        scenario.deliver(1);
        scenario.sync();
      }
      scenario.drop();
      for (let at = 0; at < 3; at += 1) {
        scenario.wait(100);
        scenario.settle();
      }
      expect(scenario.at(1).raft.commitIndex).toBe(2);
      expect(scenario.at(2).raft.commitIndex).toBe(2);
    }
  });

  test('a reset connection loses what was in flight: the leader sends it again', () => {
    const scenario = led();
    scenario.at(1).propose();
    scenario.drop(1, 2);
    scenario.command('reset 1 2');
    scenario.settle();
    expect(scenario.at(2).log.lastIndex).toBe(2);
  });

  test('a rejection that arrives twice or late changes nothing', () => {
    const scenario = led();
    scenario.cut(3);
    for (let at = 0; at < 3; at += 1) scenario.at(1).propose();
    scenario.settle();
    scenario.heal();
    scenario.at(1).propose();
    scenario.deliver(1, 3);
    const [first] = inFlight(scenario, 'appendResponse').filter(({ from, success }) => from === 3 && !success);
    scenario.deliver(3, 1);
    const probed = inFlight(scenario, 'appendRequest').filter(({ to }) => to === 3).length;
    // Again while the next probe is out: it is not the answer to that probe.
    scenario.at(1).step({ ...(first as Message), rejectedIndex: 3 } as Message);
    expect(inFlight(scenario, 'appendRequest').filter(({ to }) => to === 3)).toHaveLength(probed);
    scenario.settle();
    // And again when everything is acknowledged.
    scenario.at(1).step(first as Message);
    expect(scenario.at(1).raft.progress()[1]).toMatchObject({ id: 3, state: 'replicate', matchIndex: 5 });
    expect(scenario.flying).toEqual([]);
  });

  test('a write that is reported under another term than the entry has now does not count', () => {
    const scenario = led();
    scenario.at(1).propose();
    scenario.at(1).raft.stored(2, 7);
    scenario.at(1).raft.stored(9, 1);
    expect(scenario.at(1).raft.storedIndex).toBe(1);
    scenario.at(1).raft.stored(2, 1);
    expect(scenario.at(1).raft.storedIndex).toBe(2);
  });

  test('an acknowledgement of what was never sent is ignored', () => {
    const scenario = led();
    const ack = { type: 'appendResponse', to: 1, term: 1, success: true, lastIndex: 99, hintTerm: 0, rejectedIndex: 0 } as const;
    scenario.at(1).step({ ...ack, from: 2 });
    scenario.at(1).step({ ...ack, from: 3 });
    expect(scenario.at(1).raft.commitIndex).toBe(1);
    expect(scenario.at(1).raft.progress()[0]).toMatchObject({ matchIndex: 1 });
  });

  test('uncommitted bytes are bounded: proposals are refused beyond, and accepted again after a commit', () => {
    const scenario = led(3, { maxUncommittedBytes: 4 * BLOCK });
    for (let at = 0; at < 4; at += 1) expect(scenario.at(1).propose()).toBe(true);
    expect(scenario.at(1).raft.canPropose(BLOCK)).toBe(false);
    expect(scenario.at(1).propose()).toBe(false);
    scenario.settle();
    expect(scenario.at(1).propose()).toBe(true);
  });

  test('windows: what one silent follower is sent is bounded in messages and bytes', () => {
    const scenario = led(3, { maxInflightMessages: 4, maxInflightBytes: 6 * BLOCK });
    scenario.cut(3);
    for (let at = 0; at < 30; at += 1) {
      scenario.at(1).propose(1, 2);
      scenario.settle();
    }
    const silent = scenario
      .at(1)
      .raft.progress()
      .find(({ id }) => id === 3);
    expect(silent?.inflightMessages).toBe(3);
    expect(silent?.inflightBytes).toBe(6 * BLOCK);
    scenario.heal();
    for (let at = 0; at < 3; at += 1) {
      scenario.wait(100);
      scenario.settle();
    }
    expect(scenario.at(3).raft.commitIndex).toBe(31);
  });
});

describe('F35 paper 5.4 safety', () => {
  test('5.4.1 the vote goes only to a log that is at least as up-to-date: last term first, then length', () => {
    const scenario = led();
    scenario.at(1).propose(2);
    scenario.settle(); // 3 holds 3@1
    const ask = { type: 'voteRequest', from: 2, to: 3, transfer: true } as const;
    const cases: [number, number, boolean][] = [
      [2, 1, false],
      [9, 0, false],
      [3, 1, true],
      [4, 1, true],
      [1, 2, true],
    ];
    let term = 10;
    for (const [lastIndex, lastTerm, granted] of cases) {
      scenario.drop();
      scenario.at(3).step({ ...ask, term: ++term, lastIndex, lastTerm });
      scenario.sync(3);
      expect(inFlight(scenario, 'voteResponse'), `${lastIndex}@${lastTerm}`).toMatchObject([{ term, granted }]);
    }
  });

  test('5.4.2 an entry of an older term is not committed by counting, but with the first of the own term', () => {
    const scenario = led(5);
    scenario.cut(1, 3, 4, 5);
    scenario.at(1).propose();
    scenario.settle(); // 2@1 on 1 and 2
    scenario.crash(1);
    scenario.at(2).autoNoop = false;
    scenario.elect(2);
    expect(scenario.at(2).raft.role).toBe('leader');
    expect(scenario.at(2).raft.commitIndex).toBe(1);
    scenario.at(2).propose();
    scenario.settle();
    expect(scenario.at(2).raft.commitIndex).toBe(3);
  });

  test('5.5 a follower that fails loses nothing that it acknowledged, and catches up', () => {
    const scenario = led();
    scenario.at(1).propose(3);
    scenario.settle();
    scenario.crash(2);
    scenario.at(1).propose(2);
    scenario.settle();
    scenario.start(2);
    expect(scenario.at(2).log.lastIndex).toBe(4);
    scenario.command('reset 1 2');
    scenario.settle();
    expect(scenario.at(2).raft.commitIndex).toBe(6);
  });

  test('a term known only from the log survives: the hard state is raised to it, without a vote', () => {
    const scenario = led();
    scenario.crash(3);
    scenario.at(3).durableHardState = { term: 0, votedFor: 0 };
    scenario.start(3);
    expect([scenario.at(3).raft.term, scenario.at(3).raft.votedFor]).toEqual([1, 0]);
    scenario.sync(3);
    expect(scenario.at(3).durableHardState).toEqual({ term: 1, votedFor: 0 });
  });
});

describe('F35 thesis', () => {
  test('a single voter leads at once, commits what its own disk stored, and reads without a round', () => {
    const scenario = cluster(1);
    expect(scenario.at(1).raft.role).toBe('leader');
    expect(scenario.at(1).raft.commitIndex).toBe(0);
    scenario.sync(1);
    expect(scenario.at(1).raft.commitIndex).toBe(1);
    scenario.command('read 1 5');
    expect(scenario.at(1).reads).toEqual([{ context: 5, index: 1 }]);
  });

  test('3.10 transfer: no proposals meanwhile, the target takes over within a round, the old leader follows', () => {
    const scenario = led();
    expect(scenario.at(1).raft.transferLeadership(2)).toBe(true);
    expect(scenario.at(1).raft.canPropose(BLOCK)).toBe(false);
    scenario.at(1).carryOut();
    scenario.settle();
    expect([scenario.at(2).raft.role, scenario.at(1).raft.leader, scenario.at(3).raft.leader]).toEqual(['leader', 2, 2]);
  });

  test('3.10 transfer: a lost order to campaign is repeated after a heartbeat', () => {
    const scenario = led();
    scenario.command('transfer 1 2');
    scenario.drop();
    scenario.wait(100, 1);
    scenario.settle();
    expect(scenario.at(2).raft.role).toBe('leader');
  });

  test('a replica whose log is being replaced does not campaign', () => {
    const scenario = led();
    scenario.cut(3);
    scenario.at(1).propose();
    scenario.settle();
    scenario.at(1).cutHead(2);
    scenario.heal();
    scenario.wait(100, 1);
    scenario.settle();
    expect(scenario.at(3).installing).toEqual({ from: 1, index: 2, lastTerm: 1 });
    scenario.wait(5000, 3);
    expect(scenario.at(3).raft.role).toBe('follower');
    scenario.at(3).failInstall();
    scenario.wait(5000, 3);
    expect(scenario.at(3).raft.role).toBe('preCandidate');
  });

  test('3.10 transfer: refused to a learner, a stranger, itself, and by a follower', () => {
    const scenario = led(2, { learner: 3 });
    expect([3, 7, 1].map((to) => scenario.at(1).raft.transferLeadership(to))).toEqual([false, false, false]);
    expect(scenario.at(2).raft.transferLeadership(1)).toBe(false);
  });

  test('4.2.3 a replica that cannot hear the leader does not depose it, whatever its term', () => {
    const scenario = led();
    scenario.at(2).step({ type: 'voteRequest', from: 3, to: 2, term: 50, lastIndex: 99, lastTerm: 49, transfer: false });
    scenario.at(1).step({ type: 'voteRequest', from: 3, to: 1, term: 50, lastIndex: 99, lastTerm: 49, transfer: false });
    expect([scenario.at(1).raft.term, scenario.at(2).raft.term]).toEqual([1, 1]);
  });

  test('6.2 check-quorum: a leader that hears no majority for an election timeout steps down, and a minority does not help', () => {
    const scenario = led(5);
    scenario.cut(1, 3, 4, 5);
    for (let at = 0; at < 9; at += 1) {
      scenario.wait(100, 1);
      scenario.deliver();
    }
    expect(scenario.at(1).raft.quorumFresh(scenario.nowMs)).toBe(true);
    scenario.wait(100, 1);
    expect(scenario.at(1).raft.role).toBe('follower');
  });

  test('6.2 a leader that slept steps down at its first tick, before it counts what piled up meanwhile', () => {
    const scenario = led();
    scenario.at(1).propose();
    scenario.deliver(1);
    scenario.sync(2, 3);
    scenario.wait(10_000, 1);
    scenario.deliver();
    expect([scenario.at(1).raft.role, scenario.at(1).raft.commitIndex]).toEqual(['follower', 1]);
  });

  test('6.4 reads: the answer is never below what was committed when it was asked, and waits for a majority', () => {
    const scenario = led(5);
    scenario.at(1).propose();
    scenario.settle();
    scenario.command('read 1 5');
    scenario.deliver(1, 2);
    scenario.deliver(2, 1);
    expect(scenario.at(1).reads).toEqual([]);
    scenario.deliver(1, 3);
    scenario.deliver(3, 1);
    expect(scenario.at(1).reads).toEqual([{ context: 5, index: 2 }]);
  });

  test('6.4 reads: a heartbeat answer from before the read does not count for it', () => {
    const scenario = led();
    scenario.wait(100, 1);
    scenario.deliver(1);
    scenario.command('read 1 5');
    scenario.drop(1);
    scenario.deliver();
    expect(scenario.at(1).reads).toEqual([]);
  });

  /** Found by seed 3661: the only voter that was left never answered a read again. */
  test('6.4 reads: a round that waits for a voter who is removed ends with it', () => {
    const scenario = led(2);
    const joint = { voters: [1], learners: [], outgoing: [1, 2] };
    expect(scenario.at(1).change(joint)).toBe(true);
    scenario.settle();
    scenario.cut(2);
    scenario.command('read 1 5');
    expect(scenario.at(1).reads).toEqual([]);
    expect(scenario.at(1).change({ voters: [1], learners: [], outgoing: null })).toBe(true);
    scenario.settle();
    expect(scenario.at(1).reads).toEqual([{ context: 5, index: 2 }]);
    scenario.command('read 1 6');
    scenario.settle();
    expect(scenario.at(1).reads.at(-1)).toMatchObject({ context: 6 });
  });

  test('6.4 reads: queued reads are bounded, more are refused', () => {
    const scenario = led();
    for (let context = 0; context <= MAX_PENDING_READS; context += 1) scenario.at(1).raft.readIndex(context);
    scenario.at(1).carryOut();
    expect(scenario.at(1).reads).toEqual([{ context: MAX_PENDING_READS, index: null }]);
  });

  test('9.6 pre-vote: asks without raising the term; granted only without a live leader and to an up-to-date log', () => {
    const scenario = led();
    const ask = { type: 'preVoteRequest', from: 3, to: 2, term: 2, lastIndex: 1, lastTerm: 1 } as const;
    scenario.at(2).step(ask);
    scenario.at(2).raft.peerReset(1);
    scenario.at(2).step({ ...ask, lastIndex: 0, lastTerm: 0 });
    scenario.at(2).step(ask);
    expect(inFlight(scenario, 'preVoteResponse').map(({ granted }) => granted)).toEqual([false, false, true]);
    expect([scenario.at(2).raft.term, scenario.at(2).pendingHardStates]).toEqual([1, 0]);
  });

  test('a leader whose own disk stores nothing for an election timeout hands over, and does not campaign until it caught up', () => {
    const scenario = led();
    scenario.at(1).propose();
    for (let at = 0; at < 11 && scenario.at(1).raft.role === 'leader'; at += 1) {
      scenario.wait(100);
      scenario.sync(2, 3);
      scenario.deliver();
    }
    expect(scenario.at(1).raft.role).toBe('follower');
    expect(scenario.at(1).raft.commitIndex).toBe(2);
    scenario.cut(1);
    scenario.drop();
    scenario.wait(5000, 1);
    expect(scenario.at(1).raft.role).toBe('follower');
    scenario.sync(1);
    scenario.wait(5000, 1);
    expect(scenario.at(1).raft.role).toBe('preCandidate');
  });
});
