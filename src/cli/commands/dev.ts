import { type Command, InvalidArgumentError } from 'commander';
import { type Context, Exit, programName } from '../context.ts';
import type { ClusterEvent, LocalCluster } from '../local-cluster.ts';
import { integer } from '../options.ts';
import { note, write, writeJson } from '../output.ts';

interface DevOptions {
  readonly groups: number;
  readonly replicas: number;
  readonly dir: string;
  readonly basePort: number;
  readonly json?: boolean;
}

export function register(program: Command, context: Context): void {
  program
    .command('dev')
    .description(
      'Runs a local cluster until Ctrl-C, each replica its own process. A replica that crashes is reported and started again.\nSettings of the replicas can be given as LEDGERMQ_… variables.',
    )
    .option('--groups <n>', 'broker groups, a, b, c …', integer(1, 9), 1)
    .option('--replicas <n>', 'replicas of each group: 1, 3 or 5', replicaCount, 3)
    .option('--dir <dir>', 'data and logs; used again when it exists', './data')
    .option('--base-port <port>', 'client port of the first replica, +10 for each further one; 0 picks a free block', port, 7460)
    .option('--json', 'one JSON line when ready, then one for each event')
    .action((options: DevOptions) => dev(context, options));
}

async function dev(context: Context, options: DevOptions): Promise<void> {
  const { LocalCluster } = await import('../local-cluster.ts');
  const { onStopSignal } = await import('../signals.ts');
  let cluster: LocalCluster | null = null;
  let stopAsked = false;
  const stopped = new Promise<void>((resolve) => {
    onStopSignal(
      () => {
        stopAsked = true;
        resolve();
      },
      () => process.exit(Exit.failed),
    );
  });
  const starting = LocalCluster.start({
    dir: options.dir,
    groups: options.groups,
    replicas: options.replicas,
    basePort: options.basePort,
    restart: true,
    onEvent: (event) => report(context, options, event),
  });
  // A signal while it starts: the children end with this process's end of their standard input.
  cluster = await Promise.race([starting, stopped.then(() => null)]);
  if (cluster === null) {
    process.exit(Exit.done);
  }
  if (!stopAsked) ready(context, options, cluster);
  await stopped;
  note(context, 'stopping …');
  await cluster.stop();
  if (options.json) writeJson(context, { event: 'stopped' });
  // npm's pipe or a terminal on standard input would keep the process alive.
  process.exit(Exit.done);
}

function ready(context: Context, options: DevOptions, cluster: LocalCluster): void {
  const { endpoints, admin, pids, basePort, dir } = cluster;
  if (options.json) {
    writeJson(context, { event: 'ready', endpoints, admin, pids, basePort, dir });
    return;
  }
  const program = programName(context);
  const endpoint = basePort === 7460 ? '' : ` --endpoint ${endpoints[0]}`;
  write(
    context,
    [
      `${pids.length === 1 ? 'One replica is' : `${pids.length} replicas are`} running, each its own process (${pids.join(', ')}).`,
      `  clients  ${endpoints.join(',')}`,
      `  admin    ${admin.map((url) => `${url}/metrics`).join(' ')}`,
      `  data     ${dir}`,
      '',
      'Try in a second terminal:',
      `  ${program} topic create orders --queues 8${endpoint}`,
      `  ${program} send orders --body hello --order-key customer-7${endpoint}`,
      `  ${program} consume orders --group billing --from first --max 1${endpoint}`,
      `  ${program} cluster status${endpoint}`,
      '',
      'Ctrl-C stops it.',
      '',
    ].join('\n'),
  );
}

function report(context: Context, options: DevOptions, event: ClusterEvent): void {
  if (options.json) {
    if (event.event === 'exited' ? !event.expected : event.again) writeJson(context, event);
    return;
  }
  if (event.event === 'started' && event.again)
    note(context, `replica ${event.brokerName}-${event.replicaId} is started again (${event.pid})`);
  if (event.event === 'exited' && !event.expected) {
    const how = event.signal ?? `code ${event.code}`;
    const next = event.restartInMs === null ? '' : `; starting it again in ${event.restartInMs / 1000} s`;
    note(context, `replica ${event.brokerName}-${event.replicaId} ended (${how})${next}`);
  }
}

function replicaCount(text: string): number {
  if (!['1', '3', '5'].includes(text)) throw new InvalidArgumentError('1, 3 or 5');
  return Number(text);
}

function port(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0 || value > 65_000 || text.trim() === '') throw new InvalidArgumentError('0 … 65000');
  return value;
}
