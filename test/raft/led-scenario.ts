import { expect } from 'vitest';
import type { Message } from '../../src/raft/types.ts';
import { Scenario } from './scenario.ts';

export function cluster(size = 3, options: Record<string, number> = {}): Scenario {
  const scenario = new Scenario();
  scenario.cluster(size, options);
  return scenario;
}

/** Replica 1 leads. */
export function led(size = 3, options: Record<string, number> = {}): Scenario {
  const scenario = cluster(size, options);
  scenario.elect(1);
  expect(scenario.at(1).raft.role).toBe('leader');
  return scenario;
}

/** Messages of a type that were sent and have not arrived. */
export function inFlight<T extends Message['type']>(scenario: Scenario, type: T): Extract<Message, { type: T }>[] {
  return scenario.flying.map(({ message }) => message).filter((message): message is Extract<Message, { type: T }> => message.type === type);
}
