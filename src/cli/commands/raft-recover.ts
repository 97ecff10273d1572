import type { Command } from 'commander';
import { type Context, Exit } from '../context.ts';
import { note, writeJson } from '../output.ts';

interface RecoverFlags {
  readonly dataDir: string;
  readonly reason: string;
  readonly json?: boolean;
}

export function registerRecover(raft: Command, context: Context): void {
  raft
    .command('recover')
    .description(
      'A majority is lost for good: the replica of this directory, which must not run, goes on alone at its next start.\nWhat only the lost ones had acknowledged is lost. They must not come back with their old directories: they end when they meet this one.',
    )
    .requiredOption('--data-dir <dir>', 'data directory of the replica that goes on')
    .requiredOption('--reason <text>', 'who decided this, and why: for the log')
    .option('--json', 'one JSON document')
    .action((flags: RecoverFlags) => recover(context, flags));
}

async function recover(context: Context, flags: RecoverFlags): Promise<void> {
  const { NodeDisk } = await import('../../io/node/disk.ts');
  const { writeRecoverNote } = await import('../../replica/forced-recovery.ts');
  const disk = new NodeDisk();
  if (!(await disk.exists(`${flags.dataDir}/meta.json`))) {
    context.exit = Exit.failed;
    note(context, `${flags.dataDir} has no meta.json: not a data directory of a replica`);
    return;
  }
  await writeRecoverNote(disk, flags.dataDir, { reason: flags.reason });
  if (flags.json) writeJson(context, { dataDir: flags.dataDir, reason: flags.reason });
  else
    note(
      context,
      `start the replica of ${flags.dataDir} now: it goes on alone, and takes the others in when they come with empty directories`,
    );
}
