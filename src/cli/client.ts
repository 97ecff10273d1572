import { setTimeout as sleep } from 'node:timers/promises';
import type { LedgerClient } from '../client/ledger-client.ts';
import { assertApplied } from '../client/topic-admin.ts';
import { LedgerError } from '../protocol/errors.ts';
import { AdminSession } from './admin-session.ts';
import { CommandError, type Context, Exit } from './context.ts';

/** A client to brokers that answer now. @throws CommandError (unreachable): a command says so at once instead of waiting for a delivery deadline */
export async function connectClient(endpoints: readonly string[], context?: Context): Promise<LedgerClient> {
  const session = await AdminSession.connect(endpoints, context);
  session.close();
  const { LedgerClient } = await import('../client/ledger-client.ts');
  return new LedgerClient({ endpoints });
}

/** Creates the topic on all broker groups; one that exists, with whatever queues, is used as it is. */
export async function ensureTopic(endpoints: readonly string[], topic: string, queues: number): Promise<void> {
  using session = await AdminSession.connect(endpoints);
  try {
    assertApplied(await session.topics().create(topic, { queues, perm: 6, messageType: 'normal', replication: 0 }));
  } catch (error) {
    if (!(error instanceof LedgerError) || error.code !== 'TOPIC_EXISTS') throw error;
  }
}

/** Waits for a condition. @throws CommandError (timed out) */
export async function waitUntil(
  condition: () => boolean | Promise<boolean>,
  deadlineMs: number,
  what: () => string,
  pollMs = 20,
): Promise<void> {
  while (!(await condition())) {
    if (performance.now() > deadlineMs) throw new CommandError(Exit.timedOut, `timed out: ${what()}`);
    await sleep(pollMs);
  }
}
