import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { said } from './redis-server.ts';

/** Where Debian keeps the servers of its releases. */
const DEBIAN_LIB = '/usr/lib/postgresql';

/** A PostgreSQL server of this test's own, behind a socket file in a temporary directory: no port is taken. */
export class PostgresServer {
  /** Directory of its socket: what a client gives as host. */
  readonly host: string;
  readonly #process: ChildProcess;

  private constructor(host: string, process: ChildProcess) {
    this.host = host;
    this.#process = process;
  }

  static async start(): Promise<PostgresServer> {
    const dir = mkdtempSync(join(tmpdir(), 'ledgermq-pg-'));
    // It refuses to run as root; the package made a user for it.
    const user = process.getuid?.() === 0 ? userOf('postgres') : null;
    if (user !== null) chownSync(dir, user.uid, user.gid);
    const data = join(dir, 'data');
    const options = { cwd: dir, ...user };
    execFileSync(program('initdb'), ['-D', data, '-U', 'postgres', '-A', 'trust', '--no-sync', '-E', 'UTF8'], {
      ...options,
      stdio: 'ignore',
    });
    const args = ['-D', data, '-k', dir, '-c', 'listen_addresses=', '-c', 'timezone=UTC'];
    const child = spawn(program('postgres'), args, { ...options, stdio: ['ignore', 'ignore', 'pipe'] });
    await said(child, child.stderr, 'ready to accept connections');
    return new PostgresServer(dir, child);
  }

  async stop(): Promise<void> {
    if (this.#process.exitCode === null) {
      // Its smart shutdown waits for sessions to end: a pool that is ended says so before its connections are closed, and the fast
      // one would tell them of an error that nobody listens for any more.
      this.#process.kill('SIGTERM');
      await once(this.#process, 'exit');
    }
    rmSync(this.host, { recursive: true, force: true });
  }
}

function program(name: string): string {
  const releases = existsSync(DEBIAN_LIB) ? readdirSync(DEBIAN_LIB).sort((a, b) => Number(b) - Number(a)) : [];
  return releases.map((release) => join(DEBIAN_LIB, release, 'bin', name)).find((path) => existsSync(path)) ?? name;
}

function userOf(name: string): { readonly uid: number; readonly gid: number } {
  const id = (flag: string): number => Number(execFileSync('id', [flag, name], { encoding: 'utf8' }));
  return { uid: id('-u'), gid: id('-g') };
}
