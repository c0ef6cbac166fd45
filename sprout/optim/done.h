/* The end of a set's region: the names of sets.h and products.h are free again. */
#undef ISA
#undef VL
#undef MR
#undef NV
#undef INTEGERS
#undef UNIT
#undef vec
#undef ivec
#undef ld
#undef st
