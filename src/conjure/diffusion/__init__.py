"""A diffusion process over a pipeline of diffusers: settings, noise levels, jobs and trajectories that several texts share."""
