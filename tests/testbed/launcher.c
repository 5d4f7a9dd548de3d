/* Stands where an interpreter is expected, and becomes the real one with the shim preloaded.
 *
 * A program, since a script would not leave its own path as the first word of the command line,
 * by which its processes are told from others. What it needs lies beside it.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *beside(const char *program, const char *name)
{
    const char *slash = strrchr(program, '/');
    char *path = NULL;
    if (!slash || asprintf(&path, "%.*s/%s", (int)(slash - program), program, name) < 0)
        _exit(126);
    return path;
}

int main(int count, char **words)
{
    if (!count)
        return 126;
    setenv("LD_PRELOAD", beside(words[0], "shim.so"), 1);
    setenv("TESTBED_WRONGS", beside(words[0], "wrongs"), 1);
    execv(beside(words[0], "real-python"), words);
    perror(words[0]);
    return 126;
}
