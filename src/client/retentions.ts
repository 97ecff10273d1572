import { type LongerRetention, Op, type RetentionUse } from '../protocol/requests.ts';
import { everywhere, type GroupOutcome } from './every-group.ts';
import type { GroupPort } from './message-search.ts';

/** For how long a topic's messages, or dead letters, are kept beyond the log's own retention, and how much of them. */
export interface TopicRetention {
  /** Of each message, from when it was stored, ms. */
  readonly retentionMs: number;
  /** Of what is kept for longer than the log, at each broker group: the oldest go beyond it. */
  readonly maxBytes: number;
}

export interface GroupRetention extends RetentionUse {
  readonly brokerName: string;
}

/** @throws LedgerError BAD_REQUEST: not a retention */
export function setRetention(port: GroupPort, retention: LongerRetention, timeoutMs: number): Promise<GroupOutcome> {
  return everywhere(port, async (brokerName) => void (await port.askLeader(brokerName, Op.retentionSet, retention, timeoutMs)));
}

export function removeRetention(port: GroupPort, name: string, timeoutMs: number): Promise<GroupOutcome> {
  return everywhere(port, async (brokerName) => void (await port.askLeader(brokerName, Op.retentionRemove, { name }, timeoutMs)));
}

export async function retentions(
  port: GroupPort,
  timeoutMs: number,
): Promise<{ readonly retentions: readonly GroupRetention[] } & GroupOutcome> {
  const found: GroupRetention[] = [];
  const outcome = await everywhere(port, async (brokerName) => {
    const { body } = await port.askLeader(brokerName, Op.retentionList, {}, timeoutMs);
    found.push(...body.retentions.map((retention) => ({ ...retention, brokerName })));
  });
  const order = ({ name, brokerName }: GroupRetention): string => `${name} ${brokerName}`;
  return { retentions: found.sort((a, b) => (order(a) < order(b) ? -1 : 1)), ...outcome };
}
