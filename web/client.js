// The page is not written yet.
