/** A data directory that this replica must not use. Nothing in it was changed. */
export class LogRefused extends Error {
  override name = 'LogRefused';
}

/** A file of another cluster, format or segment size. */
export class LogForeign extends LogRefused {
  override name = 'LogForeign';
}

/** Damage that cannot be the last write of an unclean stop (I4): never cut, never served, repaired from peers. */
export class LogCorrupt extends LogRefused {
  override name = 'LogCorrupt';
  /** Where the first bad byte range begins. */
  readonly position: number;
  constructor(position: number, reason: string) {
    super(`CommitLog damaged at position ${position}: ${reason}`);
    this.position = position;
  }
}

/** This replica may have forgotten what it voted or acknowledged: under this incarnation it must not take part any more (I5). */
export class IdentityLost extends LogRefused {
  override name = 'IdentityLost';
}

/** The log ends before a position that was once durable: the replica may have lost what it acknowledged (I5). */
export class LogShortened extends IdentityLost {
  override name = 'LogShortened';
}

/** The machine went down while the log was flushed asynchronously: what was acknowledged may never have reached the disk (I5). */
export class FlushLost extends IdentityLost {
  override name = 'FlushLost';
}

/** Both slots of the hard state are bad: term and vote are unknown, the replica must not vote (I4, I5). */
export class HardStateCorrupt extends IdentityLost {
  override name = 'HardStateCorrupt';
}

/** The log was poisoned by an earlier failure (I3). */
export class LogPoisoned extends Error {
  override name = 'LogPoisoned';
}
