import { useSyncExternalStore } from "react";

export type Theme = "light" | "dark";
const key = "pgherd-theme";
const changed = "pgherd:theme";
const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");

function chosen(): Theme | null {
  try {
    const kept = localStorage.getItem(key);
    return kept === "light" || kept === "dark" ? kept : null;
  } catch {
    return null;
  }
}

function current(): Theme {
  return chosen() ?? (prefersDark.matches ? "dark" : "light");
}

export function applyTheme(): void {
  document.documentElement.dataset.theme = current();
}

export function chooseTheme(theme: Theme): void {
  try {
    localStorage.setItem(key, theme);
  } catch {
    // It then holds until the page is loaded again.
  }
  document.documentElement.dataset.theme = theme;
  window.dispatchEvent(new Event(changed));
}

function subscribe(listener: () => void): () => void {
  const onSystem = () => {
    applyTheme();
    listener();
  };
  prefersDark.addEventListener("change", onSystem);
  window.addEventListener(changed, listener);
  return () => {
    prefersDark.removeEventListener("change", onSystem);
    window.removeEventListener(changed, listener);
  };
}

export function useTheme(): Theme {
  return useSyncExternalStore(subscribe, () => (document.documentElement.dataset.theme as Theme) ?? "light");
}
