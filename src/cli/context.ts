import { LedgerError } from '../protocol/errors.ts';

/** Exit codes of every command. */
export const Exit = { done: 0, failed: 1, usage: 2, unreachable: 3, timedOut: 4 } as const;
export type Exit = (typeof Exit)[keyof typeof Exit];

/** What a command is given instead of the process's globals, so that tests run commands in their own process. */
export interface Context {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Data only. */
  readonly stdout: NodeJS.WritableStream;
  /** Everything else: progress, advice, errors. */
  readonly stderr: NodeJS.WritableStream;
  readonly stdin: NodeJS.ReadableStream;
  /** Set by a command that ends without an exception but not with "done". */
  exit: Exit;
}

/** Ends the command with this exit code and message. */
export class CommandError extends Error {
  override name = 'CommandError';
  readonly exit: Exit;
  constructor(exit: Exit, message: string, options?: ErrorOptions) {
    super(message, options);
    this.exit = exit;
  }
}

export function usageError(message: string): CommandError {
  return new CommandError(Exit.usage, message);
}

/** The exit code that an error of the client means. */
export function exitOf(error: unknown): Exit {
  if (error instanceof CommandError) return error.exit;
  if (!(error instanceof LedgerError)) return Exit.failed;
  switch (error.code) {
    case 'NO_ROUTE':
    case 'CONNECTION_LOST':
      return Exit.unreachable;
    case 'BAD_NAME':
      return Exit.usage;
    case 'DEADLINE_EXCEEDED':
    case 'OUTCOME_UNKNOWN':
      return Exit.timedOut;
    case 'RETRIES_EXHAUSTED':
      return error.causes.length > 0 && error.causes.every((cause) => exitOf(cause) === Exit.unreachable) ? Exit.unreachable : Exit.failed;
    default:
      return Exit.failed;
  }
}

/** How the program is called here, for advice that can be copied into a shell. */
export function programName(context: Context): string {
  return context.env['npm_lifecycle_event'] === undefined ? 'ledgermq' : 'npm run -s ledgermq --';
}
