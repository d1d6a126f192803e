import { useSyncExternalStore } from "react";

let skew = 0;
let now = Date.now();
let timer = 0;
const listeners = new Set<() => void>();

/** Times are pgherd's. Where this machine's clock is wrong, ages must be right all the same. */
export function heardClock(at: string): void {
  const difference = Date.parse(at) - Date.now();
  skew = Math.abs(difference) < 2000 ? 0 : difference;
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  if (listeners.size === 1) {
    timer = window.setInterval(() => {
      now = Date.now();
      for (const tell of listeners) tell();
    }, 1000);
  }
  return () => {
    listeners.delete(listener);
    if (listeners.size === 0) window.clearInterval(timer);
  };
}

function snapshot(): number {
  if (listeners.size === 0) now = Math.floor(Date.now() / 1000) * 1000;
  return now;
}

/** This browser's clock, once a second: one timer for all ages that are shown. */
export function useNow(): number {
  return useSyncExternalStore(subscribe, snapshot);
}

/** pgherd's clock, as far as it is known. */
export function useServerNow(): number {
  return useNow() + skew;
}
