import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A Redis server of this test's own, behind a socket file in a temporary directory: no port is taken. */
export class RedisServer {
  readonly path: string;
  readonly #dir: string;
  readonly #process: ChildProcess;

  private constructor(dir: string, process: ChildProcess) {
    this.#dir = dir;
    this.path = join(dir, 'redis.sock');
    this.#process = process;
  }

  static async start(): Promise<RedisServer> {
    const dir = mkdtempSync(join(tmpdir(), 'ledgermq-redis-'));
    const args = ['--port', '0', '--unixsocket', join(dir, 'redis.sock'), '--dir', dir, '--save', '', '--appendonly', 'no'];
    const child = spawn('redis-server', args, { stdio: ['ignore', 'pipe', 'inherit'] });
    await said(child, child.stdout, 'eady to accept connections');
    return new RedisServer(dir, child);
  }

  async stop(): Promise<void> {
    if (this.#process.exitCode === null) {
      this.#process.kill('SIGTERM');
      await once(this.#process, 'exit');
    }
    rmSync(this.#dir, { recursive: true, force: true });
  }
}

/** Waits for a line of a server's log. @throws Error with what it said instead, when it ends */
export async function said(child: ChildProcess, log: NodeJS.ReadableStream | null, text: string): Promise<void> {
  let all = '';
  const found = new Promise<void>((resolve) => {
    log?.on('data', (chunk: Buffer) => {
      all += chunk.toString();
      if (all.includes(text)) resolve();
    });
  });
  const ended = Promise.race([once(child, 'exit'), once(child, 'error').then(([error]) => Promise.reject(error as Error))]);
  await Promise.race([found, ended.then(() => Promise.reject(new Error(`${child.spawnfile} ended: ${all}`)))]);
}
