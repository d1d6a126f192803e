import { useCallback, useEffect, useRef, useState } from "react";
import { share } from "./share";
import { useManaged, useManager } from "./manager";

export interface Resource<T> {
  data: T | null;
  error: string | null;
  /** When `data` was read, in milliseconds of this browser's clock. */
  at: number | null;
  reload(): void;
}

interface Read<T> {
  path: string;
  data: T | null;
  error: string | null;
  at: number | null;
}

/** Reads again when an order of these actions has ended. */
export function useReloadAfter(actions: string[], reload: () => void): void {
  const ended = useManaged((s) => s.known.orders.filter((o) => o.state !== "running" && actions.includes(o.action)).length);
  const before = useRef(ended);
  useEffect(() => {
    if (before.current !== ended) reload();
    before.current = ended;
  }, [ended, reload]);
}

/** Reads a path of the API now and every so often while the page can be seen. */
export function useResource<T>(path: string | null, everySeconds: number): Resource<T> {
  const { api } = useManager();
  const [read, setRead] = useState<Read<T> | null>(null);
  const again = useRef<() => void>(() => {});

  useEffect(() => {
    if (path === null) return;
    const abort = new AbortController();
    let timer = 0;
    const look = async () => {
      window.clearTimeout(timer);
      if (document.hidden) return;
      try {
        const data = await api.get<T>(path, abort.signal);
        setRead((old) => {
          const before = old?.path === path ? old.data : null;
          return { path, data: share(before, data), error: null, at: Date.now() };
        });
      } catch (error) {
        if (abort.signal.aborted) return;
        const said = (error as Error).message;
        setRead((old) => (old?.path === path ? { ...old, error: said } : { path, data: null, error: said, at: null }));
      }
      if (everySeconds > 0 && !abort.signal.aborted) timer = window.setTimeout(look, everySeconds * 1000);
    };
    const seen = () => !document.hidden && void look();
    again.current = () => void look();
    document.addEventListener("visibilitychange", seen);
    void look();
    return () => {
      abort.abort();
      window.clearTimeout(timer);
      document.removeEventListener("visibilitychange", seen);
    };
  }, [api, path, everySeconds]);

  const reload = useCallback(() => again.current(), []);
  const mine = read?.path === path ? read : null;
  return { data: mine?.data ?? null, error: mine?.error ?? null, at: mine?.at ?? null, reload };
}
