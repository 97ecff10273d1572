import type { Command } from 'commander';
import { type QuotaLimits, type QuotaSubject, quotaOf, quotas, removeQuota, setQuota } from '../../client/quotas.ts';
import { AdminSession } from '../admin-session.ts';
import { type Context, usageError } from '../context.ts';
import { endWith, failedGroups, listed } from '../failed-groups.ts';
import { type ClientFlags, integer, withClientFlags } from '../options.ts';
import { formatTable, write, writeJson } from '../output.ts';

const GROUP_TIMEOUT_MS = 10_000;

interface SubjectFlags extends ClientFlags {
  readonly client?: string;
  readonly namespace?: string;
}
interface SetFlags extends SubjectFlags {
  readonly each?: boolean;
  readonly bytesPerS?: number;
  readonly messagesPerS?: number;
  readonly connections?: number;
  readonly topics?: number;
}

export function register(program: Command, context: Context): void {
  const quota = program.command('quota').description('Limits of what clients and namespaces use, at each broker group.');
  const sub = (name: string, text: string): Command => withClientFlags(quota.command(name).description(text));
  const ofSubject = (command: Command): Command =>
    command
      .option('--client <id>', 'a client id, or the beginning of client ids and *')
      .option('--namespace <name>', 'what stands before % in the names of topics');
  ofSubject(sub('set', 'Sets the limits of a client or namespace; what is not given is not limited.'))
    .option('--each', 'each client that is meant has these limits for itself')
    .option('--bytes-per-s <n>', 'bytes sent a second', integer(1))
    .option('--messages-per-s <n>', 'messages sent a second', integer(1))
    .option('--connections <n>', 'connections at each broker (clients)', integer(0))
    .option('--topics <n>', 'topics (namespaces)', integer(0))
    .action((flags: SetFlags) => set(context, flags));
  sub('list', 'All quotas, and what is used of them.').action((flags: ClientFlags) => list(context, flags));
  ofSubject(sub('remove', 'Lifts the limits of a client or namespace.')).action((flags: SubjectFlags) => remove(context, flags));
}

function subjectOf({ client, namespace }: SubjectFlags): QuotaSubject {
  if ((client === undefined) === (namespace === undefined)) throw usageError('give either --client or --namespace');
  return client === undefined ? { namespace: namespace as string } : { client };
}

async function set(context: Context, flags: SetFlags): Promise<void> {
  const { bytesPerS, messagesPerS, connections, topics, each } = flags;
  const limits: QuotaLimits = {
    ...(bytesPerS === undefined ? {} : { bytesPerSecond: bytesPerS }),
    ...(messagesPerS === undefined ? {} : { messagesPerSecond: messagesPerS }),
    ...(connections === undefined ? {} : { connections }),
    ...(topics === undefined ? {} : { topics }),
    ...(each === true ? { each } : {}),
  };
  if (Object.keys(limits).every((name) => name === 'each')) throw usageError('give a limit; "quota remove" lifts them');
  const quota = quotaOf(subjectOf(flags), limits);
  using session = await AdminSession.open(context, flags.endpoint);
  const { done, failed } = await setQuota(session.groups(), quota, GROUP_TIMEOUT_MS);
  if (flags.json) writeJson(context, { quota, done, failed: failedGroups(failed) });
  else write(context, `${quota.kind} ${quota.name}: set at ${listed(done)}\n`);
  endWith(context, failed);
}

async function remove(context: Context, flags: SubjectFlags): Promise<void> {
  const subject = subjectOf(flags);
  using session = await AdminSession.open(context, flags.endpoint);
  const { done, failed } = await removeQuota(session.groups(), subject, GROUP_TIMEOUT_MS);
  if (flags.json) writeJson(context, { ...subject, done, failed: failedGroups(failed) });
  else
    write(context, `${'client' in subject ? `client ${subject.client}` : `namespace ${subject.namespace}`}: removed at ${listed(done)}\n`);
  endWith(context, failed);
}

async function list(context: Context, flags: ClientFlags): Promise<void> {
  using session = await AdminSession.open(context, flags.endpoint);
  const found = await quotas(session.groups(), GROUP_TIMEOUT_MS);
  if (flags.json) writeJson(context, { quotas: found.quotas, failed: failedGroups(found.failed) });
  else {
    const limit = (value: number): number | null => (value < 0 ? null : value);
    write(
      context,
      formatTable(
        ['kind', 'name', 'group', 'each', 'bytes/s', 'messages/s', 'connections', 'topics', 'used', 'refused'],
        found.quotas.map((quota) => [
          quota.kind,
          quota.name,
          quota.brokerName,
          quota.each,
          limit(quota.bytesPerSecond),
          limit(quota.messagesPerSecond),
          limit(quota.connections),
          limit(quota.topics),
          quota.used,
          quota.refused,
        ]),
      ),
    );
  }
  endWith(context, found.failed);
}
