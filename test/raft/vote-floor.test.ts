import { describe, expect, test } from 'vitest';
import { inFlight, led } from './led-scenario.ts';
import { Scenario } from './scenario.ts';

describe('I4 vote floor: what a replica acknowledged and lost', () => {
  test('no vote for a log that ends before it, and no campaign with one', () => {
    const scenario = led();
    scenario.crash(1);
    scenario.at(2).raft.setVoteFloor(5);
    scenario.due(2);
    expect(scenario.flying).toEqual([]);
    scenario.elect(3);
    expect(scenario.at(3).raft.role).not.toBe('leader');
    scenario.at(2).raft.setVoteFloor(null);
    scenario.wait(1500, 3);
    scenario.settle();
    expect(scenario.at(3).raft.role).toBe('leader');
  });

  /** Found by seed 919: such a follower was asked for the same place for ever, as long as its leader stayed. */
  test('a follower that has lost what it acknowledged gets it again from the leader that counted on it', () => {
    const scenario = led();
    for (let i = 0; i < 3; i++) scenario.at(1).propose();
    scenario.settle();
    const { lastIndex } = scenario.at(2).log;
    scenario.crash(2);
    scenario.at(2).damage(2);
    scenario.start(2);
    scenario.at(2).raft.setVoteFloor(lastIndex);
    expect(scenario.at(2).log.lastIndex).toBe(2);
    const committed = scenario.at(1).raft.commitIndex;
    scenario.command('reset 1 2');
    scenario.settle();
    expect(scenario.at(2).log.lastIndex).toBe(lastIndex);
    expect(scenario.at(1).raft.progress()[0]).toMatchObject({ id: 2, state: 'replicate', matchIndex: lastIndex });
    expect(scenario.at(1).raft.commitIndex).toBe(committed);
    // Nothing is counted twice: what comes now is committed by whoever stores it.
    scenario.at(1).propose();
    scenario.settle();
    expect(scenario.at(2).raft.commitIndex).toBe(lastIndex + 1);
  });

  test('a vote floor is compared as logs are: a longer log of an older term may lack what was lost, a newer term cannot', () => {
    const granted = (lastIndex: number, lastTerm: number, floorTerm: number): boolean => {
      const scenario = new Scenario();
      scenario.cluster(3);
      scenario.at(2).raft.setVoteFloor(5, floorTerm);
      scenario.at(2).step({ type: 'voteRequest', from: 1, to: 2, term: 9, lastIndex, lastTerm, transfer: false });
      scenario.sync();
      const answer = inFlight(scenario, 'voteResponse')[0] as { granted: boolean } | undefined;
      return answer?.granted ?? false;
    };
    expect(granted(9, 2, 3)).toBe(false);
    expect(granted(4, 3, 3)).toBe(false);
    expect(granted(5, 3, 3)).toBe(true);
    expect(granted(1, 4, 3)).toBe(true);
    // The term of what was lost is not known: the index alone.
    expect(granted(4, 4, 0)).toBe(false);
    expect(granted(5, 1, 0)).toBe(true);
  });
});
