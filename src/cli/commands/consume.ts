import type { Command } from 'commander';
import type { ReceivedMessage } from '../../client/message.ts';
import { AdminSession, endpointsOf } from '../admin-session.ts';
import { type Context, Exit } from '../context.ts';
import { type ClientFlags, type Filter, type From, integer, parseFilter, parseFrom, positive, withClientFlags } from '../options.ts';
import { note, write, writeJson } from '../output.ts';
import { shownMessage } from '../show-message.ts';

interface ConsumeFlags extends ClientFlags {
  readonly group: string;
  readonly max?: number;
  readonly from: From;
  readonly filter?: Filter;
  readonly timeout?: number;
}

/** Whoever asked for an end after some seconds waits no longer than this for a cluster that is gone; the session ends by itself. */
const RELEASE_TIMEOUT_MS = 2000;

export function register(program: Command, context: Context): void {
  withClientFlags(
    program.command('consume').description('Receives messages as a member of a consumer group, a message a line.'),
    'one JSON line a message',
  )
    .argument('<topic>')
    .requiredOption('--group <group>', 'consumer group; its committed offsets say where it goes on')
    .option('--max <n>', 'end after this many messages', integer(1))
    .option('--from <where>', 'where a new group starts: first, last, or a time (ms since 1970 or ISO 8601)', parseFrom, 'last')
    .option('--filter <expression>', 'tags, A || B, or SQL92 over properties, "amount > 100 AND TAGS = \'A\'"; default all', parseFilter)
    .option('--timeout <s>', 'end after this many seconds; exit code 4 when --max was not reached', positive)
    .action((topic: string, flags: ConsumeFlags) => consume(context, topic, flags));
}

/** One message at a time, in order of each queue: what is printed is committed, and nothing behind --max is. */
async function consume(context: Context, topic: string, flags: ConsumeFlags): Promise<void> {
  const endpoints = endpointsOf(context, flags.endpoint);
  const { connectClient } = await import('../client.ts');
  const { onStopSignal } = await import('../signals.ts');
  await using client = await connectClient(endpoints, context);
  const { promise: ended, resolve: end } = Promise.withResolvers<'signal' | 'timeout'>();
  let lastError = '';
  const consumer = client.consumer({
    group: flags.group,
    subscriptions: [{ topic, ...flags.filter }],
    consumeFromWhere: flags.from,
    releaseTimeoutMs: RELEASE_TIMEOUT_MS,
    onError: (error) => {
      // A topic that is missing is asked for again and again: said once, until something else is wrong.
      const { message } = error as Error;
      if (message !== lastError) note(context, `ledgermq: ${message}; trying on`);
      lastError = message;
    },
  });
  await consumer.start();
  const timer = flags.timeout === undefined ? null : setTimeout(() => end('timeout'), flags.timeout * 1000);
  const release = onStopSignal(
    () => end('signal'),
    () => process.exit(Exit.failed),
  );
  const messages = consumer[Symbol.asyncIterator]();
  let received = 0;
  let how: 'max' | 'signal' | 'timeout' = 'max';
  for (;;) {
    // Asking for the next message says that the one before it is done: also after the last one, whose answer nobody waits for.
    const next = messages.next();
    next.catch(() => undefined);
    if (received === flags.max) break;
    const step = await Promise.race([next, ended]);
    if (typeof step === 'string') {
      how = step;
      break;
    }
    if (step.done) break;
    received++;
    print(context, flags, step.value);
  }
  if (timer !== null) clearTimeout(timer);
  release();
  // Nothing came: because there was nothing, or because nobody is there any more? The second one is a failure.
  await Promise.all([consumer.close(), how === 'timeout' ? reached(endpoints) : undefined]);
  if (how === 'timeout' && flags.max !== undefined) {
    note(context, `timed out: ${received} of ${flags.max} messages received`);
    context.exit = Exit.timedOut;
  }
}

/** @throws CommandError (unreachable) */
async function reached(endpoints: readonly string[]): Promise<void> {
  (await AdminSession.connect(endpoints)).close();
}

function print(context: Context, flags: ConsumeFlags, message: ReceivedMessage): void {
  if (!flags.json) {
    write(context, `${message.text()}\n`);
    return;
  }
  writeJson(context, shownMessage(message));
}
