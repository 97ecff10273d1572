import { isOutOfSpace } from '../io/disk.ts';

/** Work on derived files: one piece after the other, and nothing more once one has failed. */
export class FileWork {
  #last: Promise<void> = Promise.resolve();
  #failure: Error | null = null;

  /** In order behind what was asked before. Its failure is the caller's. */
  run(work: () => Promise<void>): Promise<void> {
    const done = this.#last.then(work);
    this.#last = done.catch(() => undefined);
    return done;
  }

  /**
   * The same for what changes files. A failed write or removal leaves files that nobody can vouch for: every later call rejects
   * with it (the owner ends the process). A full disk is no such failure: what was not written is tried again.
   */
  runPoisoning(work: () => Promise<void>): Promise<void> {
    return this.run(async () => {
      if (this.#failure !== null) throw this.#failure;
      try {
        await work();
      } catch (error) {
        if (!isOutOfSpace(error)) this.#failure = error as Error;
        throw error;
      }
    });
  }
}
