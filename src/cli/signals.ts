/** npm passes a Ctrl-C on, so that it arrives twice; a second one within this time is the same key press. */
const SAME_PRESS_MS = 1000;

/**
 * Calls `stop` at the first SIGINT or SIGTERM, and `force` when SIGINT comes again later than one second after it
 * (somebody does not want to wait). @returns takes the handlers away
 */
export function onStopSignal(stop: (signal: NodeJS.Signals) => void, force: () => void): () => void {
  let firstMs: number | null = null;
  const handler = (signal: NodeJS.Signals): void => {
    const nowMs = performance.now();
    if (firstMs === null) {
      firstMs = nowMs;
      stop(signal);
    } else if (signal === 'SIGINT' && nowMs - firstMs > SAME_PRESS_MS) force();
  };
  process.on('SIGINT', handler);
  process.on('SIGTERM', handler);
  return () => {
    process.removeListener('SIGINT', handler);
    process.removeListener('SIGTERM', handler);
  };
}

/** Resolves with the first stop signal; a later SIGINT ends the process at once with `forcedExit`. */
export function stopSignal(forcedExit: number): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    onStopSignal(resolve, () => process.exit(forcedExit));
  });
}
