import { mkdtempSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Command, Option } from 'commander';
import { LedgerError } from '../../protocol/errors.ts';
import { Op } from '../../protocol/requests.ts';
import { AdminSession, endpointsOf } from '../admin-session.ts';
import type { BenchResult, ProduceMode } from '../bench-run.ts';
import { CommandError, type Context, Exit, usageError } from '../context.ts';
import { makeDirectory } from '../make-directory.ts';
import { integer, notNegative, positive } from '../options.ts';
import { formatTable, note, write, writeJson } from '../output.ts';

interface BenchFlags {
  readonly endpoint?: string;
  readonly json?: boolean;
  readonly topic: string;
  readonly queues: number;
  readonly size: number;
  readonly seconds: number;
  readonly warmup: number;
  readonly dir?: string;
  readonly groups?: number;
}
interface ProduceFlags extends BenchFlags {
  readonly mode: ProduceMode;
  readonly concurrency: number;
  readonly producers: number;
}
interface ConsumeFlags extends BenchFlags {
  readonly group: string;
  readonly backlog: number;
}
interface EndToEndFlags extends BenchFlags {
  readonly group: string;
  readonly rate: number;
  readonly concurrency: number;
}

const CONSUME_TIMEOUT_S = 300;
const MAX_OWN_GROUPS = 9;
/** Of a group's three replicas: segments filled ahead and the reserve that each keeps of the disk. */
const MIN_FREE_BYTES = 2 * 2 ** 30;

export function register(program: Command, context: Context): void {
  const bench = program
    .command('bench')
    .description(
      'Measurements. Without --endpoint and LEDGERMQ_ENDPOINT they start a cluster of their own, --groups broker groups of three replicas, in a temporary directory.',
    );
  const sub = (name: string, text: string): Command =>
    bench
      .command(name)
      .description(text)
      .option('--endpoint <urls>', 'addresses of brokers (or LEDGERMQ_ENDPOINT; default: a cluster of its own)')
      .option('--json', 'one JSON document')
      .option('--topic <topic>', 'topic; made when missing', 'bench')
      .option('--queues <n>', 'queues of a topic that is made, in each broker group', integer(1, 65_535), 8)
      .option('--size <bytes>', 'size of a body', integer(8, 4 * 1024 * 1024), 1024)
      .option('--dir <dir>', 'where a cluster of its own keeps its data while it runs (default: a temporary directory)')
      .option('--groups <n>', 'broker groups of a cluster of its own, three replicas each (default: 1)', integer(1, MAX_OWN_GROUPS));
  sub('produce', 'Sends for a while; latency is from the call to the acknowledgement.')
    .option('--seconds <s>', 'measured time', positive, 20)
    .option('--warmup <s>', 'time before it', notNegative, 5)
    .addOption(
      new Option('--mode <mode>', 'sync: N loops await each acknowledgement; async: N messages in flight; batch: N batches of 32 in flight')
        .choices(['sync', 'async', 'batch'])
        .default('async'),
    )
    .option('--concurrency <n>', 'N', integer(1, 100_000), 1024)
    .option('--producers <n>', 'clients with a connection each', integer(1, 1000), 1)
    .action((flags: ProduceFlags) => produce(context, flags));
  sub('consume', 'Drains a backlog to a handler, acknowledging; latency is between two deliveries to the handler.')
    .option('--group <group>', 'consumer group', 'bench')
    .option('--backlog <n>', 'messages to send first when the cluster is its own', integer(1, 100_000_000), 500_000)
    .action((flags: ConsumeFlags) => consume(context, flags));
  sub('e2e', 'Sends and receives at once; latency is from the call of send to the handler.')
    .option('--group <group>', 'consumer group', 'bench')
    .option('--seconds <s>', 'measured time', positive, 20)
    .option('--warmup <s>', 'time before it', notNegative, 5)
    .option('--rate <n>', 'messages per second; 0 = as many as --concurrency allows', notNegative, 10_000)
    .option('--concurrency <n>', 'messages in flight at most', integer(1, 100_000), 16_384)
    .action((flags: EndToEndFlags) => endToEnd(context, flags));
}

async function produce(context: Context, flags: ProduceFlags): Promise<void> {
  const { benchProduce } = await import('../bench-run.ts');
  await measured(context, flags, (endpoints, onProgress) =>
    benchProduce({ ...shared(flags, endpoints, onProgress), mode: flags.mode, concurrency: flags.concurrency, producers: flags.producers }),
  );
}

async function consume(context: Context, flags: ConsumeFlags): Promise<void> {
  const { benchConsume } = await import('../bench-run.ts');
  await measured(context, flags, async (endpoints, onProgress, own) => {
    if (own) await fill(endpoints, flags, onProgress);
    const backlog = await lagOf(endpoints, flags.group, flags.topic);
    if (backlog === 0) throw new CommandError(Exit.failed, `nothing to consume: ${flags.group} has committed all of ${flags.topic}`);
    const result = await benchConsume({
      endpoints,
      topic: flags.topic,
      group: flags.group,
      backlog,
      timeoutS: CONSUME_TIMEOUT_S,
      onProgress,
    });
    const { consumed, ...shown } = result;
    if (consumed < backlog) {
      note(context, `timed out: ${consumed} of ${backlog} messages consumed`);
      context.exit = Exit.timedOut;
    }
    return shown;
  });
}

async function endToEnd(context: Context, flags: EndToEndFlags): Promise<void> {
  const { benchEndToEnd } = await import('../bench-run.ts');
  await measured(context, flags, (endpoints, onProgress) =>
    benchEndToEnd({ ...shared(flags, endpoints, onProgress), group: flags.group, rate: flags.rate, inFlight: flags.concurrency }),
  );
}

function shared(flags: BenchFlags, endpoints: readonly string[], onProgress: (text: string) => void) {
  return { endpoints, topic: flags.topic, sizeBytes: flags.size, warmupS: flags.warmup, seconds: flags.seconds, onProgress };
}

/** Runs on the given brokers or on a cluster of its own, and prints. */
async function measured(
  context: Context,
  flags: BenchFlags,
  run: (endpoints: readonly string[], onProgress: (text: string) => void, own: boolean) => Promise<BenchResult>,
): Promise<void> {
  const onProgress = (text: string): void => note(context, text);
  const { ensureTopic } = await import('../client.ts');
  const own = flags.endpoint === undefined && context.env['LEDGERMQ_ENDPOINT'] === undefined;
  if (!own && flags.groups !== undefined) throw usageError('--groups: a cluster that is given has the groups it has');
  const on = async (endpoints: readonly string[]): Promise<BenchResult> => {
    await ensureTopic(endpoints, flags.topic, flags.queues);
    return run(endpoints, onProgress, own);
  };
  const result = own ? await onOwnCluster(flags, onProgress, on) : await on(endpointsOf(context, flags.endpoint));
  if (flags.json) writeJson(context, result);
  else write(context, formatTable(Object.keys(result), [Object.values(result) as (string | number)[]]));
  if (result.msgs_per_s === 0) context.exit = Exit.failed;
}

async function onOwnCluster(
  flags: BenchFlags,
  onProgress: (text: string) => void,
  run: (endpoints: readonly string[]) => Promise<BenchResult>,
): Promise<BenchResult> {
  const { LocalCluster } = await import('../local-cluster.ts');
  const { onStopSignal } = await import('../signals.ts');
  const groups = flags.groups ?? 1;
  const dir = ownDirectory(flags.dir ?? tmpdir(), groups);
  const { promise: interrupted, reject: interrupt } = Promise.withResolvers<never>();
  const release = onStopSignal(
    () => interrupt(new CommandError(Exit.failed, 'interrupted')),
    () => process.exit(Exit.failed),
  );
  // Before the cluster runs nobody waits for it yet.
  interrupted.catch(() => undefined);
  onProgress(`starting ${3 * groups} replicas in ${dir}`);
  try {
    await using cluster = await LocalCluster.start({ dir, groups });
    return await Promise.race([run(cluster.endpoints), interrupted]);
  } finally {
    release();
    rmSync(dir, { recursive: true, force: true });
  }
}

/** @throws CommandError (failed) for a directory that replicas could only fail in, each in its own log */
function ownDirectory(parent: string, groups: number): string {
  try {
    makeDirectory(parent);
    const { bavail, bsize } = statfsSync(parent);
    const freeBytes = bavail * bsize;
    const neededBytes = groups * MIN_FREE_BYTES;
    if (freeBytes >= neededBytes) return mkdtempSync(join(parent, 'ledgermq-bench-'));
    const free = `${Math.floor(freeBytes / 2 ** 20)} MiB`;
    throw new CommandError(Exit.failed, `--dir ${parent}: ${free} are free, ${3 * groups} replicas need ${neededBytes / 2 ** 20} MiB`);
  } catch (error) {
    if (error instanceof CommandError) throw error;
    throw new CommandError(Exit.failed, `--dir ${parent}: ${(error as Error).message}`);
  }
}

/** Sends the backlog. */
async function fill(endpoints: readonly string[], flags: ConsumeFlags, onProgress: (text: string) => void): Promise<void> {
  const { connectClient } = await import('../client.ts');
  await using client = await connectClient(endpoints);
  const producer = client.producer();
  const body = Buffer.alloc(flags.size, 0x61);
  const step = 10_000;
  for (let sent = 0; sent < flags.backlog; sent += step) {
    const count = Math.min(step, flags.backlog - sent);
    await Promise.all(Array.from({ length: count }, () => producer.send({ topic: flags.topic, body })));
    if (sent % (10 * step) === 0) onProgress(`backlog: ${sent + count} of ${flags.backlog} messages`);
  }
}

async function lagOf(endpoints: readonly string[], group: string, topic: string): Promise<number> {
  using session = await AdminSession.connect(endpoints);
  try {
    const parts = await session.leaders(Op.groupDescribe, { group }, 'GROUP_NOT_FOUND');
    const ofTopic = parts.flatMap(({ body }) => body.queues).filter((queue) => queue.topic === topic);
    if (ofTopic.length > 0) return ofTopic.reduce((sum, queue) => sum + queue.lag, 0);
  } catch (error) {
    if (!(error instanceof LedgerError) || error.code !== 'GROUP_NOT_FOUND') throw error;
  }
  // A group that was never there starts at the first message.
  const parts = await session.leaders(Op.topicList, { topics: [topic] });
  return parts
    .flatMap(({ body }) => body.topics.flatMap(({ queues }) => queues))
    .reduce((sum, queue) => sum + queue.maxOffset - queue.minOffset, 0);
}
