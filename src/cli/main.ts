#!/usr/bin/env node
import * as nodeModule from 'node:module';
import { type Context, Exit } from './context.ts';

const OLDEST_NODE = 24;
// An older one stops at the first import or at `await using`, with a message that names neither.
if (Number.parseInt(process.versions.node, 10) < OLDEST_NODE) {
  process.stderr.write(`ledgermq: needs Node ${OLDEST_NODE} or newer, this is ${process.versions.node} (${process.execPath})\n`);
  process.exit(Exit.failed);
}

// Compiled once, kept in the temporary directory: a checkout starts in half the time. Everything else is imported behind this line.
nodeModule.enableCompileCache();
const { run } = await import('./program.ts');

// A load generator that collects garbage ten times a second measures itself.
if (process.argv[2] === 'bench') {
  const { hasMemorySettings, runAsHeavyClient } = await import('./heavy-client.ts');
  if (!hasMemorySettings()) process.exit(await runAsHeavyClient());
}

const context: Context = {
  env: process.env,
  stdout: process.stdout,
  stderr: process.stderr,
  stdin: process.stdin,
  exit: Exit.done,
};

const END_GRACE_MS = 500;

// `… | head` closes the pipe: the reader has what it wanted. Without this the process would end with a stack trace.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  process.exit(error.code === 'EPIPE' ? Exit.done : Exit.failed);
});
process.on('unhandledRejection', (reason) => {
  process.stderr.write(`ledgermq: ${reason instanceof Error ? (reason.stack ?? reason.message) : String(reason)}\n`);
  process.exit(Exit.failed);
});

process.exitCode = await run(process.argv.slice(2), context);

/** Fires only when something else still holds the process: a command that is done must end, and not before its output has left. */
function endSoon(): void {
  setTimeout(() => {
    if (process.stdout.writableLength > 0) {
      endSoon();
      return;
    }
    if (process.env['LEDGERMQ_DEBUG'] !== undefined)
      process.stderr.write(`ledgermq: held by ${process.getActiveResourcesInfo().join(', ')}\n`);
    process.exit();
  }, END_GRACE_MS).unref();
}
endSoon();
