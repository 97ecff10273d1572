import { Op, type Quota, type QuotaUse } from '../protocol/requests.ts';
import { everywhere, type GroupOutcome } from './every-group.ts';
import type { GroupPort } from './message-search.ts';

/** Whom a quota is of: a client id, `billing-*` for all that begin so, or the namespace in front of `%` in topics' names. */
export type QuotaSubject = { readonly client: string } | { readonly namespace: string };

/** What is left out is not limited. Rates and topics hold at each broker group, connections at each broker. */
export interface QuotaLimits {
  /** Bytes of sent batches a second, 1 or more. */
  readonly bytesPerSecond?: number;
  /** Messages sent a second, 1 or more. */
  readonly messagesPerSecond?: number;
  /** Clients only. */
  readonly connections?: number;
  /** Namespaces only. */
  readonly topics?: number;
  /** Each client that `billing-*` means has this for itself, instead of all together. */
  readonly each?: boolean;
}

export interface GroupQuota extends QuotaUse {
  readonly brokerName: string;
}

const NO_LIMIT = -1;

export function quotaOf(subject: QuotaSubject, limits: QuotaLimits): Quota {
  const { bytesPerSecond = NO_LIMIT, messagesPerSecond = NO_LIMIT, connections = NO_LIMIT, topics = NO_LIMIT, each = false } = limits;
  return { ...keyOf(subject), each, bytesPerSecond, messagesPerSecond, connections, topics };
}

function keyOf(subject: QuotaSubject): Pick<Quota, 'kind' | 'name'> {
  return 'client' in subject ? { kind: 'client', name: subject.client } : { kind: 'namespace', name: subject.namespace };
}

/** @throws LedgerError BAD_REQUEST: not a quota */
export function setQuota(port: GroupPort, quota: Quota, timeoutMs: number): Promise<GroupOutcome> {
  return everywhere(port, async (brokerName) => void (await port.askLeader(brokerName, Op.quotaSet, quota, timeoutMs)));
}

export function removeQuota(port: GroupPort, subject: QuotaSubject, timeoutMs: number): Promise<GroupOutcome> {
  return everywhere(port, async (brokerName) => void (await port.askLeader(brokerName, Op.quotaRemove, keyOf(subject), timeoutMs)));
}

export async function quotas(port: GroupPort, timeoutMs: number): Promise<{ quotas: readonly GroupQuota[] } & GroupOutcome> {
  const found: GroupQuota[] = [];
  const outcome = await everywhere(port, async (brokerName) => {
    const { body } = await port.askLeader(brokerName, Op.quotaList, {}, timeoutMs);
    found.push(...body.quotas.map((quota) => ({ ...quota, brokerName })));
  });
  const order = ({ kind, name, brokerName }: GroupQuota): string => `${kind} ${name} ${brokerName}`;
  return { quotas: found.sort((a, b) => (order(a) < order(b) ? -1 : 1)), ...outcome };
}
