import type { Metadata } from "next";
import type { ReactNode } from "react";
import { SITE_URL } from "../lib/environment";
import "./globals.css";

export const metadata: Metadata = {
  title: "FocusFlow",
  description: "Tasks, habits, and the time you spend on them",
  metadataBase: new URL(SITE_URL),
  alternates: { canonical: "/" },
};

export default function Layout({ children }: { children: ReactNode }) {
  return (
    <html lang="en">
      <body>{children}</body>
    </html>
  );
}
