import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { until } from '../e2e/test-cluster.ts';
import { RULES_FILE } from '../monitoring/rule-files.ts';

const HOST = '127.0.0.1';
/** Ports of 127.0.0.1 are taken by others between the look and the use, now and then. */
const MAX_TRIES = 3;

export interface Sample {
  readonly metric: Readonly<Record<string, string>>;
  /** [s since 1970, value] */
  readonly value: readonly [number, string];
}
export interface LoadedRule {
  readonly name: string;
  readonly query: string;
  readonly health: string;
  readonly lastError?: string;
  readonly state?: string;
  readonly type: 'alerting' | 'recording';
}
export interface Target {
  readonly health: string;
  readonly lastError: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** Debian's Prometheus with the project's rules, on a free port and a directory of its own. It scrapes and evaluates every second. */
export class PrometheusServer {
  readonly url: string;
  readonly #dir: string;
  readonly #process: ChildProcess;

  private constructor(url: string, dir: string, process: ChildProcess) {
    this.url = url;
    this.#dir = dir;
    this.#process = process;
  }

  /** @param targets HOST:PORT of the replicas' admin ports */
  static async start(targets: readonly string[]): Promise<PrometheusServer> {
    const dir = mkdtempSync(join(tmpdir(), 'ledgermq-prometheus-'));
    const config = {
      global: { scrape_interval: '1s', scrape_timeout: '1s', evaluation_interval: '1s' },
      rule_files: [RULES_FILE],
      scrape_configs: [{ job_name: 'ledgermq', static_configs: [{ targets }] }],
    };
    writeFileSync(join(dir, 'prometheus.yml'), stringify(config));
    for (let tries = 1; ; tries++) {
      const address = `${HOST}:${await freePort()}`;
      const args = [`--config.file=${dir}/prometheus.yml`, `--storage.tsdb.path=${dir}/data`, `--web.listen-address=${address}`];
      // It ends with whoever runs the test, however that ends.
      const child = spawn('setpriv', ['--pdeathsig', 'KILL', 'prometheus', ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
      let log = '';
      child.stderr.on('data', (bytes: Buffer) => (log += bytes.toString()));
      const server = new PrometheusServer(`http://${address}`, dir, child);
      try {
        await until('Prometheus is ready', async () => {
          if (child.exitCode !== null) throw new Error(`Prometheus ended: ${log}`);
          return (await fetch(`${server.url}/-/ready`).catch(() => null))?.ok === true;
        });
        // It looks for its targets 5 s after its start: what was counted before would be no increase.
        await until('every target was asked', async () => (await server.query('up')).length === targets.length);
        return server;
      } catch (error) {
        await server.#end();
        if (tries === MAX_TRIES || !log.includes('address already in use')) {
          rmSync(dir, { recursive: true, force: true });
          throw error;
        }
      }
    }
  }

  /** An instant query. @throws Error with what Prometheus says against it */
  async query(expr: string): Promise<readonly Sample[]> {
    const data = await this.#get<{ readonly resultType: string; readonly result: readonly Sample[] }>('query', { query: expr });
    return data.result;
  }

  async rules(): Promise<readonly LoadedRule[]> {
    const data = await this.#get<{ readonly groups: readonly { readonly rules: readonly LoadedRule[] }[] }>('rules');
    return data.groups.flatMap(({ rules }) => rules);
  }

  async targets(): Promise<readonly Target[]> {
    return (await this.#get<{ readonly activeTargets: readonly Target[] }>('targets')).activeTargets;
  }

  async stop(): Promise<void> {
    await this.#end();
    rmSync(this.#dir, { recursive: true, force: true, maxRetries: 5 });
  }

  async #end(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const exited = once(this.#process, 'exit');
    this.#process.kill('SIGKILL');
    await exited;
  }

  async #get<T>(path: string, parameters: Readonly<Record<string, string>> = {}): Promise<T> {
    const response = await fetch(`${this.url}/api/v1/${path}?${new URLSearchParams(parameters)}`);
    const answer = (await response.json()) as { readonly status: string; readonly error?: string; readonly data: T };
    if (answer.status !== 'success') throw new Error(`${path} ${JSON.stringify(parameters)}: ${answer.error}`);
    return answer.data;
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, HOST);
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}
