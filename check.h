#ifndef CHECK_H
#define CHECK_H

struct options;

/* See whether the options can be taken, and fit together; and whether this
   program could take the place of one that rehearses it: see replace.h.  Says
   ok, or what is wrong, and frees the options.  Returns the exit status. */
int check_options(struct options *options);

#endif
