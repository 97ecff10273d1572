import { ERRORS, type ErrorCode } from '../protocol/errors.ts';
import type { Quota } from '../protocol/requests.ts';
import type { Command, QuotaSet } from './commands.ts';
import { StateLimits } from './limits.ts';
import type { CommandHandler, CommandResult, StateTable } from './state-table.ts';

/** What is not limited. */
export const NO_LIMIT = -1;
const MAX_NAME_CHARACTERS = 255;
const PREFIX_MARK = '*';

type PackedQuota = [kind: Quota['kind'], name: string, each: boolean, bytes: number, messages: number, connections: number, topics: number];

/** Why an operator's wish is refused, or null. The same at the broker and at apply. */
export function quotaFault(quota: Quota): string | null {
  const { kind, name, each, bytesPerSecond, messagesPerSecond, connections, topics } = quota;
  if (kind !== 'client' && kind !== 'namespace') return 'a quota is of a client or of a namespace';
  if (name === '' || name.length > MAX_NAME_CHARACTERS) return `a name has 1…${MAX_NAME_CHARACTERS} characters`;
  if (kind === 'namespace' && (each || !/^[a-zA-Z0-9_-]+$/.test(name))) return 'a namespace is named whole';
  for (const limit of [bytesPerSecond, messagesPerSecond, connections, topics]) {
    if (!Number.isSafeInteger(limit) || limit < NO_LIMIT) return 'a limit is a whole number, or −1 for none';
  }
  if (bytesPerSecond === 0 || messagesPerSecond === 0) return 'a rate is at least 1 a second';
  if (kind === 'client' && topics !== NO_LIMIT) return 'topics are of a namespace';
  if (kind === 'namespace' && connections !== NO_LIMIT) return 'connections are of a client';
  return null;
}

/** `shop` of `shop%orders`, of its groups' retry topics, too; '' = none. The way RocketMQ's clients name what is in a namespace. */
export function namespaceOf(topic: string): string {
  const start = topic.startsWith('%') ? topic.indexOf('%', 1) + 1 : 0;
  const end = topic.indexOf('%', start);
  return end < 0 ? '' : topic.slice(start, end);
}

/**
 * Quotas (F44): what an operator set, in the log, so that every leader of the group holds to the same. What is used of them is
 * the leader's memory (quota-meters.ts).
 */
export class Quotas implements StateTable, CommandHandler {
  readonly name = 'quotas';
  readonly #byKey = new Map<string, Quota>();
  /** Raised with each change: who has looked something up looks again. */
  version = 0;

  get size(): number {
    return this.#byKey.size;
  }

  /** By kind and name. */
  all(): Quota[] {
    return [...this.#byKey.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, quota]) => quota);
  }

  ofNamespace(namespace: string): Quota | undefined {
    return this.#byKey.get(keyOf('namespace', namespace));
  }

  /** The client's own quota; else that of the longest prefix (`billing-*`) that it has; else none. */
  ofClient(clientId: string): Quota | undefined {
    const own = this.#byKey.get(keyOf('client', clientId));
    if (own !== undefined) return own;
    for (let length = clientId.length; length >= 0; length--) {
      const found = this.#byKey.get(keyOf('client', clientId.slice(0, length) + PREFIX_MARK));
      if (found !== undefined) return found;
    }
    return undefined;
  }

  handle(command: Command): CommandResult {
    const error = command.type === 'quotaSet' ? this.#set(command) : command.type === 'quotaRemove' ? this.#remove(command) : 'INTERNAL';
    return { error: error === null ? 0 : ERRORS[error].number, results: [] };
  }

  #set({ type: _, ...quota }: QuotaSet): ErrorCode | null {
    if (quotaFault(quota) !== null) return 'BAD_REQUEST';
    const key = keyOf(quota.kind, quota.name);
    if (!this.#byKey.has(key) && this.#byKey.size >= StateLimits.maxQuotas) return 'TOO_MANY';
    this.#byKey.set(key, quota);
    this.version++;
    return null;
  }

  #remove({ kind, name }: { readonly kind: Quota['kind']; readonly name: string }): ErrorCode | null {
    if (this.#byKey.delete(keyOf(kind, name))) this.version++;
    return null;
  }

  clear(): void {
    this.#byKey.clear();
    this.version++;
  }

  pack(): unknown {
    return this.all().map((quota): PackedQuota => {
      const { kind, name, each, bytesPerSecond, messagesPerSecond, connections, topics } = quota;
      return [kind, name, each, bytesPerSecond, messagesPerSecond, connections, topics];
    });
  }

  unpack(packed: unknown): void {
    for (const [kind, name, each, bytesPerSecond, messagesPerSecond, connections, topics] of packed as PackedQuota[]) {
      this.#byKey.set(keyOf(kind, name), { kind, name, each, bytesPerSecond, messagesPerSecond, connections, topics });
    }
    this.version++;
  }
}

function keyOf(kind: Quota['kind'], name: string): string {
  return `${kind} ${name}`;
}
