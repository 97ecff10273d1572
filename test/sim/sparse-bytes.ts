const PAGE_BYTES = 32 * 1024;
const ZERO_PAGE = new Uint8Array(PAGE_BYTES);

/** The bytes of one file; pages of zeros take no memory, so files filled ahead cost nothing. */
export class SparseBytes {
  #pages: (Uint8Array | undefined)[] = [];
  #sizeBytes = 0;

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  write(bytes: Uint8Array, position: number): void {
    let done = 0;
    while (done < bytes.length) {
      const at = position + done;
      const inPage = at % PAGE_BYTES;
      const length = Math.min(PAGE_BYTES - inPage, bytes.length - done);
      const part = bytes.subarray(done, done + length);
      this.#writePage(Math.floor(at / PAGE_BYTES), inPage, part);
      done += length;
    }
    this.#sizeBytes = Math.max(this.#sizeBytes, position + bytes.length);
  }

  /** @returns bytes read: fewer than asked at the end of the file */
  read(into: Uint8Array, position: number): number {
    const total = Math.max(0, Math.min(into.length, this.#sizeBytes - position));
    let done = 0;
    while (done < total) {
      const at = position + done;
      const inPage = at % PAGE_BYTES;
      const length = Math.min(PAGE_BYTES - inPage, total - done);
      const page = this.#pages[Math.floor(at / PAGE_BYTES)];
      if (page === undefined) into.fill(0, done, done + length);
      else into.set(page.subarray(inPage, inPage + length), done);
      done += length;
    }
    return total;
  }

  truncate(sizeBytes: number): void {
    if (sizeBytes < this.#sizeBytes) {
      const keep = Math.ceil(sizeBytes / PAGE_BYTES);
      this.#pages.length = Math.min(this.#pages.length, keep);
      const inPage = sizeBytes % PAGE_BYTES;
      if (inPage !== 0) this.#pages[keep - 1]?.fill(0, inPage);
    }
    this.#sizeBytes = sizeBytes;
  }

  clone(): SparseBytes {
    const copy = new SparseBytes();
    copy.#pages = this.#pages.map((page) => page?.slice());
    copy.#sizeBytes = this.#sizeBytes;
    return copy;
  }

  toBytes(): Uint8Array {
    const bytes = new Uint8Array(this.#sizeBytes);
    this.read(bytes, 0);
    return bytes;
  }

  #writePage(index: number, at: number, part: Uint8Array): void {
    const page = this.#pages[index];
    if (page !== undefined) {
      page.set(part, at);
      return;
    }
    if (Buffer.compare(part, ZERO_PAGE.subarray(0, part.length)) === 0) return;
    const fresh = new Uint8Array(PAGE_BYTES);
    fresh.set(part, at);
    while (this.#pages.length <= index) this.#pages.push(undefined);
    this.#pages[index] = fresh;
  }
}
