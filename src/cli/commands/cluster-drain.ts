import type { Command } from 'commander';
import type { TopicOutcome } from '../../client/topic-admin.ts';
import { AdminSession } from '../admin-session.ts';
import type { Context } from '../context.ts';
import { type ClientFlags, withClientFlags } from '../options.ts';
import { write, writeJson } from '../output.ts';
import { reportGroups } from '../topic-report.ts';

interface DrainFlags extends ClientFlags {
  readonly undo?: boolean;
}
interface RemoveFlags extends ClientFlags {
  readonly force?: boolean;
}

/** `cluster drain` and `cluster remove`: how a broker group leaves the cluster (F48). */
export function registerDrain(cluster: Command, context: Context): void {
  withClientFlags(
    cluster
      .command('drain')
      .description(
        'The queues of a broker group take no more messages and are read until they are empty; sends, and topics made later, go to the other groups.',
      )
      .argument('<brokerName>')
      .option('--undo', 'the group takes messages and topics again'),
  ).action((brokerName: string, flags: DrainFlags) => drain(context, brokerName, flags));
  withClientFlags(
    cluster
      .command('remove')
      .description(
        'Takes a drained broker group out of all topics once no consumer group has anything left there; then its processes may end.',
      )
      .argument('<brokerName>')
      .option('--force', 'also with messages that were not consumed: they are lost'),
  ).action((brokerName: string, flags: RemoveFlags) => remove(context, brokerName, flags));
}

async function drain(context: Context, brokerName: string, flags: DrainFlags): Promise<void> {
  using session = await AdminSession.open(context, flags.endpoint);
  session.broker(brokerName);
  if (flags.undo ?? false) report(context, flags, brokerName, 'opened', await session.topics().open(brokerName));
  else report(context, flags, brokerName, 'drained', await session.topics().drain(brokerName));
}

async function remove(context: Context, brokerName: string, flags: RemoveFlags): Promise<void> {
  using session = await AdminSession.open(context, flags.endpoint);
  session.broker(brokerName);
  report(context, flags, brokerName, 'removed', await session.topics().remove(brokerName, flags.force ?? false));
}

function report(context: Context, flags: ClientFlags, brokerName: string, what: string, outcomes: readonly TopicOutcome[]): void {
  const topics = outcomes.map((outcome) => ({ topic: outcome.record.topic, groups: reportGroups(context, outcome) }));
  if (flags.json) writeJson(context, { brokerName, [what]: true, topics });
  else write(context, `${what} ${brokerName}: ${topics.length === 0 ? 'nothing was to be done' : `${topics.length} topics changed`}\n`);
}
